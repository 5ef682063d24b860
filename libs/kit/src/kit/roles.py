"""Who a caller is, without any HTTP in it, so that a `domain/` may speak of it."""

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a member of a project may do; each includes the ones before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def at_least(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Caller:
    """Whose request this is: taken from a verified token, never from a header or a URL."""

    project: str
    role: Role
    subject: str
    issuer: str
    """The service that vouches for the rest: the gateway, or a neighbour that acts for a project."""
