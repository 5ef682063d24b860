"""Paths at neighbours."""

from urllib.parse import quote


def path_of(*parts: str | int) -> str:
    """`/v1/…` of these segments: whatever stands in one of them, it is one segment."""
    return "/".join(["/v1", *(quote(str(part), safe=":") for part in parts)])
