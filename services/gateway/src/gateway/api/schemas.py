"""The gateway's own nouns on the wire."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.domain.access import Grant, Scope
from gateway.domain.keys import ApiKey
from gateway.domain.projects import KeyRecord, Member, Project
from kit.callers import Role

T = TypeVar("T")

ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,99}$")]
# No colon: `service:serving` and its like are what services call themselves.
Subject = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$")]


class In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class KeyIn(In):
    name: KeyName
    role: Role = Role.VIEWER
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] | None = None
    """What the key is good for; all that its role can use, when nobody says less."""
    expires_in_days: Annotated[int, Field(ge=1, strict=True)] | None = None
    subject: Subject | None = None
    """Whose key it is: a member of the project. The caller's own, when nobody says."""
    project: ProjectName | None = None
    """One that an admin of this project made; the caller's own, when nobody says."""


class KeyOut(BaseModel):
    id: str
    name: str
    project: str
    subject: str
    role: Role
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, record: KeyRecord) -> "KeyOut":
        return cls.model_validate(record, from_attributes=True)


class NewKeyOut(KeyOut):
    key: str
    """The key itself. It is shown once."""

    @classmethod
    def made(cls, key: ApiKey, record: KeyRecord) -> "NewKeyOut":
        return cls(key=str(key), **KeyOut.of(record).model_dump())


class ProjectIn(In):
    name: ProjectName


class ProjectOut(BaseModel):
    name: str
    created_at: datetime
    made_by: str | None

    @classmethod
    def of(cls, project: Project) -> "ProjectOut":
        return cls.model_validate(project, from_attributes=True)


class MemberIn(In):
    role: Role


class MemberOut(BaseModel):
    subject: str
    role: Role
    created_at: datetime

    @classmethod
    def of(cls, member: Member) -> "MemberOut":
        return cls.model_validate(member, from_attributes=True)


class WhoamiOut(BaseModel):
    project: str
    subject: str
    role: Role
    scopes: list[Scope]
    key_id: str
    expires_at: datetime | None

    @classmethod
    def of(cls, grant: Grant) -> "WhoamiOut":
        return cls(
            project=grant.project,
            subject=grant.subject,
            role=grant.role,
            scopes=sorted(grant.scopes, key=list(Scope).index),
            key_id=grant.key_id,
            expires_at=grant.expires_at,
        )


class StatusOut(BaseModel):
    services: dict[str, dict[str, Any]]
    """Each with `ready`, and with what it lacks when it is not."""


class EntryOut(BaseModel):
    """Who did what."""

    id: uuid.UUID
    service: str
    subject: str
    issuer: str
    action: str
    noun: str
    name: str
    detail: dict[str, Any]
    request_id: str | None
    created_at: datetime
