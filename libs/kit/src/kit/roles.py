"""Who a caller is, without any HTTP in it, so that a `domain/` may speak of it."""

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a member of a project may do; each includes the ones before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def __init__(self, _value: str) -> None:
        self.rank = len(type(self).__members__)
        """Its place in this order."""

    __hash__ = str.__hash__  # Enum's is a function of Python

    def at_least(self, other: "Role") -> bool:
        return self.rank >= other.rank


@dataclass(frozen=True)
class Caller:
    """Whose request this is: taken from a verified token, never from a header or a URL."""

    project: str
    role: Role
    subject: str
    issuer: str
    """The service that vouches for the rest: the gateway, or a neighbour that acts for a project."""
