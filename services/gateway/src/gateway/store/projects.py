"""Projects and members in the database."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain.projects import Member, MemberNotFound, Project, ProjectExists, ProjectNotFound, keep_an_admin
from gateway.store.tables import api_keys, members, projects
from kit.db import NOW
from kit.roles import Caller, Role

_LIVE = projects.c.deleted_at.is_(None)
_PROJECT = (projects.c.name, projects.c.created_at, projects.c.made_by)
_MEMBER = (members.c.subject, members.c.role, members.c.created_at)


class ProjectStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, name: str, *, made_by: str | None = None) -> Project:
        """Make a project. A name is used once, also after its project is gone."""
        made = insert(projects).values(name=name, made_by=made_by).on_conflict_do_nothing().returning(*_PROJECT)
        row = (await self._connection.execute(made)).one_or_none()
        if row is None:
            raise ProjectExists(f"There is, or was, a project {name}.")
        return Project(*row)

    async def get(self, name: str, caller: Caller) -> Project:
        """A project that is open to `caller`; any other is not found."""
        project = await self.find(name)
        if project is None or not project.is_open_to(caller):
            raise ProjectNotFound(f"There is no project {name}.")
        return project

    async def page(self, caller: Caller, *, after: str | None, limit: int) -> list[Project]:
        """The projects that are open to `caller`, by name."""
        mine = projects.c.name == caller.project
        if caller.role is Role.ADMIN:
            mine = sa.or_(mine, projects.c.made_by == caller.project)
        query = sa.select(*_PROJECT).where(mine, _LIVE).order_by(projects.c.name).limit(limit)
        if after is not None:
            query = query.where(projects.c.name > after)
        return [Project(*row) for row in await self._connection.execute(query)]

    async def find(self, name: str) -> Project | None:
        """The project of this name, whoever asks."""
        row = (await self._connection.execute(sa.select(*_PROJECT).where(projects.c.name == name, _LIVE))).one_or_none()
        return None if row is None else Project(*row)

    async def delete(self, name: str) -> None:
        """Delete a project with its members and keys."""
        gone = sa.update(projects).where(projects.c.name == name, _LIVE).values(deleted_at=NOW)
        if (await self._connection.execute(gone)).rowcount == 0:
            raise ProjectNotFound(f"There is no project {name}.")
        revoked = sa.update(api_keys).where(api_keys.c.project == name, api_keys.c.revoked_at.is_(None))
        await self._connection.execute(revoked.values(revoked_at=NOW))
        await self._connection.execute(sa.delete(members).where(members.c.project == name))

    async def member(self, project: str, subject: str) -> Member:
        """One member."""
        member = await self.find_member(project, subject)
        if member is None:
            raise MemberNotFound(f"{subject} is not a member of {project}.")
        return member

    async def find_member(self, project: str, subject: str, *, lock: bool = False) -> Member | None:
        """One member, or None; with `lock`, nobody else changes the project's members meanwhile."""
        if lock:
            await self._locked(project)
        mine = sa.and_(members.c.project == project, members.c.subject == subject)
        row = (await self._connection.execute(sa.select(*_MEMBER).where(mine))).one_or_none()
        return None if row is None else _member(row)

    async def members(self, project: str, *, after: str | None = None, limit: int | None = None) -> list[Member]:
        query = sa.select(*_MEMBER).where(members.c.project == project)
        if after is not None:
            query = query.where(members.c.subject > after)
        rows = await self._connection.execute(query.order_by(members.c.subject).limit(limit))
        return [_member(row) for row in rows]

    async def put_member(self, project: str, subject: str, role: Role) -> Member:
        """Make `subject` a member with this role, or change the role."""
        keep_an_admin(await self._locked(project), subject, role)
        put = insert(members).values(project=project, subject=subject, role=role.value)
        put = put.on_conflict_do_update(index_elements=["project", "subject"], set_={"role": role.value})
        created_at = (await self._connection.execute(put.returning(members.c.created_at))).scalar_one()
        return Member(subject, role, created_at)

    async def delete_member(self, project: str, subject: str) -> None:
        """Take `subject` out of the project, and revoke their keys."""
        keep_an_admin(await self._locked(project), subject, None)
        gone = sa.delete(members).where(members.c.project == project, members.c.subject == subject)
        if (await self._connection.execute(gone)).rowcount == 0:
            raise MemberNotFound(f"{subject} is not a member of {project}.")
        theirs = sa.and_(api_keys.c.project == project, api_keys.c.subject == subject, api_keys.c.revoked_at.is_(None))
        await self._connection.execute(sa.update(api_keys).where(theirs).values(revoked_at=NOW))

    async def _locked(self, project: str) -> Sequence[Member]:
        """The members, while nobody else can change them: two admins who leave at once must not both succeed."""
        lock = sa.select(projects.c.name).where(projects.c.name == project, _LIVE).with_for_update()
        if (await self._connection.execute(lock)).one_or_none() is None:
            raise ProjectNotFound(f"There is no project {project}.")
        return await self.members(project)


def _member(row: sa.Row) -> Member:  # type: ignore[type-arg]  # rows of many shapes
    return Member(row.subject, Role(row.role), row.created_at)
