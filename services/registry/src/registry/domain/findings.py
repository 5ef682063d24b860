"""What looking at a file finds: said in words that continue "it is no such file: …"."""


class Wrong(ValueError):
    """It is not of the format."""


class Unsafe(ValueError):
    """It runs code when it is loaded."""
