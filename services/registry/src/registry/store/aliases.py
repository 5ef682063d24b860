"""Aliases and their ledger in the database. Every statement about them is in this file."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import telemetry
from kit.callers import Caller
from kit.db import NOW
from kit.ids import uuid7
from registry.domain.aliases import Alias, AliasNotFound, Move, Target
from registry.domain.models import Model
from registry.domain.versions import Version
from registry.store.tables import alias_moves, aliases, versions

_POINTED = sa.and_(
    versions.c.project == aliases.c.project,
    versions.c.model_id == aliases.c.model_id,
    versions.c.number == aliases.c.number,
)
_COLUMNS: list[sa.ColumnElement[Any]] = [
    aliases.c.id,
    aliases.c.project,
    versions.c.model,
    aliases.c.name,
    aliases.c.number,
    versions.c.digest,
    aliases.c.revision,
    aliases.c.updated_at,
]
_QUERY = sa.select(*_COLUMNS).select_from(aliases.join(versions, _POINTED))


class AliasStore:
    """Whoever changes an alias has its model locked, so that two of them take turns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, model: Model, name: str) -> Alias | None:
        row = (await self._connection.execute(_QUERY.where(_is(model, name)))).one_or_none()
        return None if row is None else _alias(row)

    async def get(self, model: Model, name: str) -> Alias:
        """
        Raises:
            AliasNotFound: the model has none of that name.
        """
        alias = await self.find(model, name)
        if alias is None:
            raise AliasNotFound(f"There is no alias {name[:100]} of {model.name}.")
        return alias

    async def page(self, model: Model, *, after: str | None, limit: int) -> Sequence[Alias]:
        """By name."""
        query = _QUERY.where(_of(model)).order_by(aliases.c.name).limit(limit)
        if after is not None:
            query = query.where(aliases.c.name > after)
        return [_alias(row) for row in await self._connection.execute(query)]

    async def names_of(self, version: Version) -> list[str]:
        """The aliases that point at a version."""
        query = _QUERY.where(versions.c.project == version.project, versions.c.id == version.id)
        return [row.name for row in await self._connection.execute(query.order_by(aliases.c.name))]

    async def add(self, model: Model, name: str, version: Version) -> Alias:
        values = {
            "project": model.project,
            "model_id": model.id,
            "name": name,
            "id": uuid7(),
            "number": version.number,
            "revision": 1,
        }
        await self._connection.execute(sa.insert(aliases).values(values))
        return await self.get(model, name)

    async def move(self, model: Model, name: str, version: Version) -> Alias:
        values = {"number": version.number, "revision": aliases.c.revision + 1, "updated_at": NOW}
        await self._connection.execute(sa.update(aliases).where(_is(model, name)).values(values))
        return await self.get(model, name)

    async def delete(self, model: Model, name: str) -> None:
        await self._connection.execute(sa.delete(aliases).where(_is(model, name)))

    async def note(
        self, caller: Caller, model: str, name: str, *, origin: Target | None, target: Target | None
    ) -> None:
        """Add a line to the ledger."""
        values = {
            "project": caller.project,
            "model": model,
            "alias": name,
            "from_version": origin and origin.version,
            "from_digest": origin and origin.digest,
            "to_version": target and target.version,
            "to_digest": target and target.digest,
            "subject": caller.subject,
            "issuer": caller.issuer,
            "request_id": telemetry.request_id.get(),
        }
        await self._connection.execute(sa.insert(alias_moves).values(values))

    async def history(self, project: str, model: str, name: str, *, before: int | None, limit: int) -> Sequence[Move]:
        """The newest first. Lines of one alias are added one after the other, so their numbers have their order."""
        of = [alias_moves.c.project == project, alias_moves.c.model == model, alias_moves.c.alias == name]
        if before is not None:
            of.append(alias_moves.c.number < before)
        query = sa.select(alias_moves).where(*of).order_by(alias_moves.c.number.desc()).limit(limit)
        return [_move(row) for row in await self._connection.execute(query)]


def _of(model: Model) -> sa.ColumnElement[bool]:
    return sa.and_(aliases.c.project == model.project, aliases.c.model_id == model.id)


def _is(model: Model, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(_of(model), aliases.c.name == name)


def _alias(row: sa.Row[Any]) -> Alias:
    values = dict(row._mapping)
    return Alias(target=Target(values.pop("number"), values.pop("digest")), **values)


def _move(row: sa.Row[Any]) -> Move:
    return Move(
        number=row.number,
        origin=None if row.from_version is None else Target(row.from_version, row.from_digest),
        target=None if row.to_version is None else Target(row.to_version, row.to_digest),
        subject=row.subject,
        issuer=row.issuer,
        request_id=row.request_id,
        at=row.created_at,
    )
