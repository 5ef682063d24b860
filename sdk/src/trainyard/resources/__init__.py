"""The nouns of the suite, one module each: what a client can ask of them."""
