"""Assemblies in the database. Every statement about the assemblies table is in this file."""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.domain.versions import AssemblyClosed
from ingest.store.tables import assemblies
from kit.db import NOW


@dataclass(frozen=True)
class Closed:
    """How an assembly ended: with a version, or with none."""

    version: uuid.UUID | None


class AssemblyStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def open(self, project: str, assembly: uuid.UUID) -> None:
        """Lock it, made at its first use: until this transaction ends, nobody closes it.

        Raises:
            AssemblyClosed: somebody has.
        """
        insert = pg.insert(assemblies).values(project=project, id=assembly)
        touched = insert.on_conflict_do_update(
            index_elements=["project", "id"], set_={"touched_at": NOW}, where=~assemblies.c.closed
        )
        if (await self._connection.execute(touched.returning(assemblies.c.id))).one_or_none() is None:
            raise AssemblyClosed(f"A version is made of the parts of {assembly}, or they are given up.")

    async def closed(self, project: str, assembly: uuid.UUID) -> Closed | None:
        """How it ended, if it has."""
        query = sa.select(assemblies.c.version_id).where(_is(project, assembly), assemblies.c.closed)
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else Closed(row.version_id)

    async def close(self, project: str, assembly: uuid.UUID, version: uuid.UUID | None) -> None:
        """End it, though it may never have begun: who is late brings nothing any more. The first end counts."""
        insert = pg.insert(assemblies).values(project=project, id=assembly, closed=True, version_id=version)
        ended = {"closed": True, "version_id": version, "touched_at": NOW}
        await self._connection.execute(
            insert.on_conflict_do_update(index_elements=["project", "id"], set_=ended, where=~assemblies.c.closed)
        )

    async def left(self, age: timedelta) -> list[tuple[str, uuid.UUID]]:
        """Those that nobody has brought anything to for so long."""
        query = sa.select(assemblies.c.project, assemblies.c.id)
        found = await self._connection.execute(
            query.where(~assemblies.c.closed, assemblies.c.touched_at < NOW - age).limit(100).with_for_update()
        )
        return [(row.project, row.id) for row in found]

    async def forget(self, age: timedelta) -> int:
        """Drop those that ended so long ago. Says how many."""
        old = sa.and_(assemblies.c.closed, assemblies.c.touched_at < NOW - age)
        return (await self._connection.execute(sa.delete(assemblies).where(old))).rowcount


def _is(project: str, assembly: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(assemblies.c.project == project, assemblies.c.id == assembly)
