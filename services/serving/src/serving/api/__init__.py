"""What the outside sees of serving."""
