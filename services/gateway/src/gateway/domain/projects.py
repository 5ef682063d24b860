"""Projects and who is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.access import Scope, scopes_within
from kit import errors
from kit.roles import Caller, Role


class ProjectNotFound(errors.NotFound): ...


class ProjectExists(errors.Conflict): ...


class ProjectInUse(errors.Conflict): ...


class MemberNotFound(errors.NotFound): ...


class LastAdmin(errors.Conflict): ...


class KeyNotFound(errors.NotFound): ...


class KeyTooStrong(errors.Invalid): ...


class TooManyKeys(errors.Conflict): ...


class ProjectPermanent(errors.Conflict): ...


FIRST = "default"
"""The project that every suite has from its beginning."""


@dataclass(frozen=True)
class Project:
    name: str
    created_at: datetime
    made_by: str | None = None
    """The project whose admin made it: its admins may administer this one too."""

    def is_open_to(self, caller: Caller) -> bool:
        """Whether `caller` may know of it.

        Subjects are names that the admins of each project give as they like, so that being called the same in two
        projects means nothing: only a key's own project counts, and what its admins made.
        """
        return self.name == caller.project or (self.made_by == caller.project and caller.role is Role.ADMIN)


@dataclass(frozen=True)
class Member:
    subject: str
    role: Role
    created_at: datetime


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of a key: never the key."""

    id: str
    project: str
    name: str
    subject: str
    role: Role
    scopes: Sequence[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def scopes_of(role: Role, asked: Sequence[Scope] | None) -> list[Scope]:
    """The scopes of a new key: those asked for, or all that its role can use.

    Raises:
        KeyTooStrong: a scope is asked for that the role could never use.
    """
    possible = scopes_within(role)
    if asked is None:
        return possible
    for place, scope in enumerate(asked):
        if scope not in possible:
            pointer = f"#/scopes/{place}"
            detail = f"A key of the role {role} has no use for the scope {scope}."
            raise KeyTooStrong(detail, errors=[{"pointer": pointer, "detail": detail}])
    return [scope for scope in possible if scope in asked]


def role_for(member: Role | None, asked: Role, subject: str) -> Role:
    """The role of a new key, which is never more than its owner has.

    Raises:
        KeyTooStrong: more is asked for, or the owner is no member.
    """
    if member is None:
        detail = f"{subject} is not a member of this project."
        raise KeyTooStrong(detail, errors=[{"pointer": "#/subject", "detail": detail}])
    if not member.at_least(asked):
        detail = f"{subject} is {member} here, so that a key of the role {asked} would be more."
        raise KeyTooStrong(detail, errors=[{"pointer": "#/role", "detail": detail}])
    return asked


def keep_an_admin(members: Sequence[Member], subject: str, role: Role | None) -> None:
    """Refuse a change of `subject`'s role (None: to leave) that would leave nobody to administer the project."""
    others = [member for member in members if member.subject != subject and member.role is Role.ADMIN]
    was_admin = any(member.subject == subject and member.role is Role.ADMIN for member in members)
    if was_admin and not others and role is not Role.ADMIN:
        raise LastAdmin(f"{subject} is the only admin of this project.")


def keep_the_first(name: str) -> None:
    """Refuse to delete what every start of the suite would have to make anew."""
    if name == FIRST:
        raise ProjectPermanent(f"The project {FIRST} came with the suite and stays with it.")


def refuse_used(name: str, nouns: Sequence[str]) -> None:
    """Refuse to delete a project in which there still is something: its nouns."""
    if nouns:
        raise ProjectInUse(f"There are still {' and '.join(nouns)} in the project {name}.")
