"""Who may pass: keys in their projects, what their scopes let them do, and for how long we trust what we last knew."""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from gateway.domain.keys import ApiKey
from gateway.domain.requests import OFFLINE, Operation
from kit import errors
from kit.roles import Caller, Role


class Scope(enum.StrEnum):
    """What a key is good for, within its role."""

    PREDICT = "predict"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


# A scope lets its key do these, and makes it no more than this role.
_LETS: Mapping[Scope, Collection[Operation]] = {
    Scope.PREDICT: {Operation.ORIENT, Operation.DESCRIBE, Operation.PREDICT},
    Scope.READ: {Operation.ORIENT, Operation.DESCRIBE, Operation.READ},
    Scope.WRITE: {Operation.ORIENT, Operation.DESCRIBE, Operation.READ, Operation.WRITE},
    Scope.ADMIN: set(Operation),
}
_CEILING: Mapping[Scope, Role] = {
    Scope.PREDICT: Role.VIEWER,
    Scope.READ: Role.VIEWER,
    Scope.WRITE: Role.EDITOR,
    Scope.ADMIN: Role.ADMIN,
}
SOON = timedelta(seconds=1)
ISSUER = "gateway"


class KeyNotAccepted(errors.Unauthenticated): ...


class ScopeMissing(errors.Forbidden): ...


class KeysNotCurrent(errors.Unavailable): ...


@dataclass(frozen=True)
class Grant:
    """What one live key gives, as of the last look at the database."""

    key_id: str
    project: str
    subject: str
    key_role: Role
    member_role: Role
    scopes: frozenset[Scope]
    digest: bytes
    expires_at: datetime | None

    @cached_property
    def role(self) -> Role:
        """The least of what the key, its owner's membership and its scopes give."""
        ceiling = max((_CEILING[scope] for scope in self.scopes), key=_rank)
        return min(self.key_role, self.member_role, ceiling, key=_rank)

    @cached_property
    def caller(self) -> Caller:
        """Who asks with this key, as the gateway says it to services."""
        return Caller(self.project, self.role, self.subject, ISSUER)

    @cached_property
    def lets(self) -> frozenset[Operation]:
        """What its scopes let it do."""
        return frozenset(operation for scope in self.scopes for operation in _LETS[scope])


@dataclass(frozen=True)
class Trust:
    """How long a snapshot of all keys is believed."""

    fresh: timedelta = timedelta(seconds=5)
    """For everything."""
    offline: timedelta = timedelta(minutes=15)
    """For predictions, when it cannot be renewed."""


@dataclass(frozen=True)
class Snapshot:
    """All live keys, by their ids."""

    grants: Mapping[str, Grant]

    def admit(self, key: ApiKey, operation: Operation, *, now: datetime, age: timedelta, trust: Trust) -> Grant:
        """What `key` gives, if it lets its owner do this.

        Raises:
            KeysNotCurrent: we cannot tell just now.
            KeyNotAccepted: it is not a live key.
            ScopeMissing: it is, but not for this.
        """
        if age > (trust.offline if operation in OFFLINE else trust.fresh):
            raise KeysNotCurrent(
                "API keys cannot be checked: the gateway's database is not answering.", retry_after=SOON
            )
        grant = self.grants.get(key.id)
        if grant is None or not key.is_of(grant.digest):
            if age > trust.fresh:
                raise KeysNotCurrent("This API key is not known here, and new ones cannot be seen.", retry_after=SOON)
            raise KeyNotAccepted("The API key is not known, or was revoked.")
        if grant.expires_at is not None and grant.expires_at <= now:
            raise KeyNotAccepted("The API key has expired.")
        if operation not in grant.lets:
            held = ", ".join(sorted(grant.scopes))
            raise ScopeMissing(f"The API key's scopes ({held}) do not let it do this.")
        return grant


def scopes_within(role: Role) -> list[Scope]:
    """All scopes that make sense for a role: what a key has when nobody asks for less."""
    return [scope for scope in Scope if role.at_least(_CEILING[scope])]


def _rank(role: Role) -> int:
    return role.rank
