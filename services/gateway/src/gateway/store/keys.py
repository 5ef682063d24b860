"""API keys in the database: their digests, and what they give."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain.access import Grant, Scope, Snapshot
from gateway.domain.keys import ApiKey
from gateway.domain.projects import KeyNotFound, KeyRecord
from gateway.store.tables import api_keys, members, projects
from kit.db import NOW
from kit.roles import Role

_RECORD = (
    api_keys.c.id,
    api_keys.c.project,
    api_keys.c.name,
    api_keys.c.subject,
    api_keys.c.role,
    api_keys.c.scopes,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
)


class KeyStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self,
        key: ApiKey,
        *,
        project: str,
        name: str,
        subject: str,
        role: Role,
        scopes: Sequence[Scope],
        lasts: timedelta,
    ) -> KeyRecord:
        """Remember a new key."""
        values = {
            "id": key.id,
            "project": project,
            "name": name,
            "subject": subject,
            "role": role.value,
            "scopes": [scope.value for scope in scopes],
            "digest": key.digest,
            "expires_at": NOW + lasts,
        }
        made = await self._connection.execute(sa.insert(api_keys).values(values).returning(*_RECORD))
        return _record(made.one())

    async def page(self, project: str, *, after: tuple[datetime, str] | None, limit: int) -> list[KeyRecord]:
        """The keys of a project, oldest first, revoked ones too."""
        query = sa.select(*_RECORD).where(api_keys.c.project == project)
        if after is not None:
            query = query.where(sa.tuple_(api_keys.c.created_at, api_keys.c.id) > after)
        rows = await self._connection.execute(query.order_by(api_keys.c.created_at, api_keys.c.id).limit(limit))
        return [_record(row) for row in rows]

    async def get(self, project: str, key_id: str) -> KeyRecord:
        query = sa.select(*_RECORD).where(api_keys.c.project == project, api_keys.c.id == key_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise KeyNotFound(f"There is no key {key_id}.")
        return _record(row)

    async def live_count(self, project: str) -> int:
        """How many keys of the project open something. Nobody else makes one of it until the transaction ends."""
        await self._connection.execute(sa.select(projects.c.name).where(projects.c.name == project).with_for_update())
        live = sa.and_(api_keys.c.project == project, api_keys.c.revoked_at.is_(None), api_keys.c.expires_at > NOW)
        query = sa.select(sa.func.count()).select_from(api_keys).where(live)
        return int((await self._connection.execute(query)).scalar_one())

    async def revoke(self, project: str, key_id: str) -> bool:
        """Make a key worthless. False when it was already."""
        mine = sa.and_(api_keys.c.project == project, api_keys.c.id == key_id)
        done = await self._connection.execute(
            sa.update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=NOW)
        )
        if done.rowcount:
            return True
        if (await self._connection.execute(sa.select(api_keys.c.id).where(mine))).one_or_none() is None:
            raise KeyNotFound(f"There is no key {key_id}.")
        return False

    async def revoke_named(self, project: str, name: str) -> None:
        """Make all keys of that name worthless."""
        named = sa.and_(api_keys.c.project == project, api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
        await self._connection.execute(sa.update(api_keys).where(named).values(revoked_at=NOW))

    async def delete_dead(self, keep: timedelta) -> int:
        """Forget keys that have been worthless for longer than `keep`."""
        ended = sa.func.least(api_keys.c.revoked_at, api_keys.c.expires_at)  # NULLs are ignored
        return (await self._connection.execute(sa.delete(api_keys).where(ended < NOW - keep))).rowcount

    async def version(self) -> tuple[int, int]:
        """Something that is another whenever `snapshot` would be: every row's last writer goes into it."""
        writers = sa.func.concat_ws(" ", api_keys.c.id, *(_written(table) for table in (api_keys, members, projects)))
        query = _live(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.hashtextextended(writers, 0)), 0))
        count, sum_ = (await self._connection.execute(query)).one()
        return int(count), int(sum_)

    async def snapshot(self) -> Snapshot:
        """All keys that are live now, with what their owners' membership gives."""
        return Snapshot(_grants(await self._connection.execute(_live(*_GRANT))))

    async def find_live(self, ids: Collection[str]) -> dict[str, Grant]:
        """Those of these keys that are live now."""
        return _grants(await self._connection.execute(_live(*_GRANT).where(api_keys.c.id.in_(ids))))


_GRANT = (
    api_keys.c.id,
    api_keys.c.project,
    api_keys.c.subject,
    api_keys.c.role,
    members.c.role.label("member_role"),
    api_keys.c.scopes,
    api_keys.c.digest,
    api_keys.c.expires_at,
)


def _live(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(*columns)
        .select_from(api_keys)
        .join(members, sa.and_(members.c.project == api_keys.c.project, members.c.subject == api_keys.c.subject))
        .join(projects, projects.c.name == api_keys.c.project)
        .where(
            projects.c.deleted_at.is_(None),
            api_keys.c.revoked_at.is_(None),
            sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > NOW),
        )
    )


def _written(table: sa.Table) -> sa.ColumnElement[str]:
    """The transaction that wrote a row: another after every change of it."""
    return sa.cast(sa.literal_column(f"{table.name}.xmin"), sa.Text)


def _grants(rows: Iterable[sa.Row[Any]]) -> dict[str, Grant]:
    return {
        row.id: Grant(
            key_id=row.id,
            project=row.project,
            subject=row.subject,
            key_role=Role(row.role),
            member_role=Role(row.member_role),
            scopes=frozenset(map(Scope, row.scopes)),
            digest=bytes(row.digest),
            expires_at=row.expires_at,
        )
        for row in rows
    }


def _record(row: sa.Row) -> KeyRecord:  # type: ignore[type-arg]  # rows of many shapes
    return KeyRecord(**{**row._mapping, "role": Role(row.role), "scopes": [Scope(scope) for scope in row.scopes]})
