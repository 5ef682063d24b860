"""Servers of others, each in an environment of its own: nothing here is imported by ours."""
