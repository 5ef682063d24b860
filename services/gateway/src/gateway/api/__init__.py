"""What the outside sees of the gateway."""
