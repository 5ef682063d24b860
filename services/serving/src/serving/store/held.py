"""What deployments hold at the registry. Every statement about this table is in this file."""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from serving.domain.deployments import Deployment
from serving.store.tables import held


class HeldStore:
    def __init__(self, connection: AsyncConnection, deployment: Deployment) -> None:
        self._connection = connection
        self._values = {"project": deployment.project, "deployment_id": deployment.id}
        self._mine = sa.and_(held.c.project == deployment.project, held.c.deployment_id == deployment.id)

    async def intend(self, refs: Collection[str]) -> None:
        """Say what is about to be held, before it is."""
        for ref in sorted(refs):
            insert = pg.insert(held).values(**self._values, ref=ref)
            again = insert.on_conflict_do_update(
                index_elements=["project", "deployment_id", "ref"], set_={"released_at": None}
            )
            await self._connection.execute(again)

    async def lacking(self, refs: Collection[str]) -> list[str]:
        """Which of these are not held, as far as is known here."""
        query = sa.select(held.c.ref).where(self._mine, held.c.ref.in_(sorted(refs)), held.c.released_at.is_(None))
        return sorted(set(refs) - set((await self._connection.execute(query)).scalars()))

    async def to_release(self, keep: Collection[str], *, again_after: timedelta) -> list[str]:
        """What is to be let go: what is held for nothing, and once more what was let go that long ago."""
        late = sa.or_(held.c.released_at.is_(None), held.c.released_at < NOW - again_after)
        query = sa.select(held.c.ref).where(self._mine, held.c.ref.not_in(sorted(keep)), late)
        return list((await self._connection.execute(query.order_by(held.c.ref))).scalars())

    async def released(self, ref: str) -> None:
        """Note that it was let go; at the second time, forget it."""
        this = sa.and_(self._mine, held.c.ref == ref)
        await self._connection.execute(sa.delete(held).where(this, held.c.released_at.is_not(None)))
        await self._connection.execute(sa.update(held).where(this).values(released_at=NOW))

    async def count(self) -> tuple[int, int]:
        """How many are held, and how many were until not long ago."""
        query = sa.select(sa.func.count(), sa.func.count(held.c.released_at)).where(self._mine)
        known, released = (await self._connection.execute(query)).one()
        return known - released, released
