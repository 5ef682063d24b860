"""The processes that answer, and what each of them observed. Every statement about these tables is in this file."""

import uuid
from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from serving.domain.deployments import Deployment, Reason
from serving.domain.observations import NOTHING, Observation
from serving.store.tables import observations, replicas

Key = tuple[str, uuid.UUID]
"""Project and id of a deployment."""
ALIVE = timedelta(seconds=10)
"""How long a replica is counted on that was not heard of."""


class ReplicaStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def report(self, replica: uuid.UUID, boot: uuid.UUID, observed: Mapping[Key, Observation]) -> set[Key]:
        """Note that the replica lives, and what it observes. The deployments of which it says something new."""
        insert = pg.insert(replicas).values(id=replica, boot=boot)
        alive = insert.on_conflict_do_update(index_elements=["id"], set_={"boot": boot, "seen_at": NOW})
        await self._connection.execute(alive)
        known = await self._of(replica)
        gone, news = known.keys() - observed.keys(), {key: it for key, it in observed.items() if known.get(key) != it}
        of = observations.c
        for project, deployment_id in sorted(gone | news.keys()):
            this = sa.and_(of.replica_id == replica, of.project == project, of.deployment_id == deployment_id)
            await self._connection.execute(sa.delete(observations).where(this))
        if news:
            rows = [
                {
                    "replica_id": replica,
                    "project": project,
                    "deployment_id": deployment_id,
                    "tried": it.tried,
                    "serving": it.serving,
                    "reason": it.reason,
                    "message": it.message[:2000],
                }
                for (project, deployment_id), it in news.items()
            ]
            await self._connection.execute(sa.insert(observations), rows)
        return gone | news.keys()

    async def _of(self, replica: uuid.UUID) -> dict[Key, Observation]:
        query = sa.select(observations).where(observations.c.replica_id == replica)
        rows = await self._connection.execute(query)
        return {(row.project, row.deployment_id): _observation(row) for row in rows}

    async def observed(self, deployment: Deployment) -> list[Observation]:
        """What each replica says that is alive; nothing, if it has not heard of the deployment."""
        of = observations.c
        same = sa.and_(
            of.replica_id == replicas.c.id, of.project == deployment.project, of.deployment_id == deployment.id
        )
        query = (
            sa.select(observations)
            .select_from(replicas.outerjoin(observations, same))
            .where(replicas.c.seen_at > NOW - ALIVE)
            .order_by(replicas.c.id)
        )
        rows = await self._connection.execute(query)
        return [NOTHING if row.replica_id is None else _observation(row) for row in rows]

    async def leave(self, replica: uuid.UUID, boot: uuid.UUID) -> None:
        """The replica ends: nobody is to wait for it."""
        mine = sa.and_(replicas.c.id == replica, replicas.c.boot == boot)
        await self._connection.execute(sa.delete(replicas).where(mine))

    async def prune(self, age: timedelta) -> int:
        """Forget replicas that were not heard of for so long. Says how many."""
        old = replicas.c.seen_at < NOW - age
        return (await self._connection.execute(sa.delete(replicas).where(old))).rowcount


def _observation(row: sa.Row[tuple[object, ...]]) -> Observation:
    return Observation(row.tried, row.serving, Reason(row.reason), row.message)
