"""The program that reads expressions: CEL of the language's own organisation, in a process of its own."""
