"""A second reconciler: brings every sweep to its end."""
