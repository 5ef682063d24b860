"""Attempts that could make way for a more important job, and those that were told to."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from trainer.domain.jobs import Job, Reason
from trainer.domain.leased import LIVE, AttemptPhase
from trainer.domain.resources import Amount
from trainer.domain.sharing import Live
from trainer.store.attempts import AttemptStore
from trainer.store.shares import TAKEN
from trainer.store.tables import attempts

MOST = 500
_LIVE = [attempts.c[name] for name in ("project", "id", "host", "priority", "phase", *TAKEN)]
_BY_IMPORTANCE = (attempts.c.priority, attempts.c.created_at.desc())


class PreemptionStore:
    """Reads and marks attempts in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def of_project(self, job: Job) -> Sequence[Live]:
        """All attempts of the job's project that are less important, the least and youngest first."""
        return await self._lower(job, attempts.c.project == job.project)

    async def running(self, job: Job) -> Sequence[Live]:
        """Such attempts of all projects that run, where the job may run too."""
        earlier = attempts.alias()
        excluded = sa.select(earlier.c.host).where(
            earlier.c.project == job.project, earlier.c.job_id == job.id, earlier.c.reason == Reason.NODE_EXCLUDED
        )
        return await self._lower(job, attempts.c.phase == AttemptPhase.RUNNING, attempts.c.host.not_in(excluded))

    async def _lower(self, job: Job, *where: sa.ColumnElement[bool]) -> Sequence[Live]:
        """Nobody else decides about these until the transaction ends."""
        less = attempts.c.priority < job.spec.priority
        query = sa.select(*_LIVE).where(*where, attempts.c.phase.in_(LIVE), less, ~attempts.c.stop_requested)
        ordered = query.order_by(*_BY_IMPORTANCE).limit(MOST).with_for_update(skip_locked=True)
        return [_live(row) for row in await self._connection.execute(ordered)]

    async def stopping(self, job: Job) -> Sequence[Live]:
        """Those that were told to make way for this job, and have not ended."""
        query = sa.select(*_LIVE).where(attempts.c.preempted_for == job.id, attempts.c.phase.in_(LIVE))
        return [_live(row) for row in await self._connection.execute(query)]

    async def has_made_way(self, job: Job, within: timedelta) -> bool:
        """Whether others make way for this job, or have done so a short while ago."""
        recent = sa.or_(attempts.c.phase.in_(LIVE), attempts.c.finished_at > NOW - within)
        query = sa.select(sa.exists().where(attempts.c.preempted_for == job.id, recent))
        return bool((await self._connection.execute(query)).scalar_one())

    async def preempt(self, victim: Live, job: Job) -> None:
        """Have it make way for the job: its own goes back into the queue, at the cost of no retry."""
        of = sa.and_(attempts.c.project == victim.project, attempts.c.id == victim.id)
        stopped = sa.update(attempts).where(of, attempts.c.phase == AttemptPhase.RUNNING)
        await self._connection.execute(stopped.values(stop_requested=True, preempted_for=job.id))
        if not victim.begun:
            store = AttemptStore(self._connection)
            await store.withdraw(await store.get(victim.project, victim.id))


def _live(row: sa.Row[Any]) -> Live:
    amount = Amount(*(row._mapping[name] for name in TAKEN))
    return Live(row.project, row.id, row.host, row.priority, amount, row.phase == AttemptPhase.RUNNING)
