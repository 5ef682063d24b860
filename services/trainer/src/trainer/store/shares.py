"""What projects may have, what they take of it, and who waits for it: quotas and their queue.

Admission is one statement: what is taken is added to the project's row, if it fits, and the attempt is inserted, or
neither. Ending an attempt is one statement too: its phase, what it gives back, and what is charged for it.

The row of a project is locked after those of its jobs and attempts; whoever holds it waits for none of these.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from trainer.domain.jobs import FINAL, Job
from trainer.domain.leased import LIVE
from trainer.domain.resources import Amount
from trainer.domain.sharing import LIMITS, Quota, Standing, period_of, quota_of
from trainer.store.ledger import LedgerStore
from trainer.store.tables import attempts, jobs, quotas, waiting

TAKEN = ("cpu_millis", "memory_bytes", "gpus")


class ShareStore:
    """Reads and writes quotas and their queue in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self, project: str) -> Standing:
        """What the project has, and nobody changes it until the transaction ends."""
        row = (await self._connection.execute(_row(project).with_for_update())).one_or_none()
        if row is None:  # its first attempt
            await self._connection.execute(pg.insert(quotas).values(project=project).on_conflict_do_nothing())
            row = (await self._connection.execute(_row(project).with_for_update())).one()
        return await self._standing(row, if_needed=True)

    async def standing(self, project: str, *, if_needed: bool = False) -> Standing:
        """What the project may have, what it takes, and what it has spent; `if_needed`: only if it has a budget."""
        row = (await self._connection.execute(_row(project))).one_or_none()
        return Standing(project=project) if row is None else await self._standing(row, if_needed=if_needed)

    async def _standing(self, row: sa.Row[Any], *, if_needed: bool) -> Standing:
        quota = quota_of(dict(row._mapping))
        since, until = period_of(row.now, quota.period)
        needed = quota.core_hours is not None or not if_needed
        spent = await LedgerStore(self._connection).core_seconds(row.project, since) if needed else 0
        used = Amount(*(row._mapping[f"used_{name}"] for name in TAKEN))
        return Standing(
            project=row.project,
            quota=quota,
            used=used,
            jobs=row.used_jobs,
            core_seconds=spent,
            since=since,
            until=until,
        )

    async def put(self, project: str, quota: Quota) -> None:
        """What the project may have from now on. What it has beyond that it keeps until it ends."""
        limits = {name: getattr(quota, name) for name in (*LIMITS, "priority", "core_hours")}
        values = limits | {"period": quota.period, "updated_at": NOW}
        await self._connection.execute(
            pg.insert(quotas)
            .values(project=project, **values)
            .on_conflict_do_update(index_elements=[quotas.c.project], set_=values)
        )

    async def projects(self, *, after: str | None = None, limit: int | None = None) -> Sequence[str]:
        """Those that have a row."""
        query = sa.select(quotas.c.project).order_by(quotas.c.project).limit(limit)
        if after is not None:
            query = query.where(quotas.c.project > after)
        return (await self._connection.execute(query)).scalars().all()

    async def in_queue(self, project: str) -> int:
        """How many jobs wait for the project's quota."""
        query = sa.select(sa.func.count()).select_from(_waiting(project))
        return int((await self._connection.execute(query)).scalar_one())

    async def wait(self, job: Job) -> None:
        """The job waits for its project's quota from now on, if it did not before."""
        values = {"project": job.project, "job_id": job.id, "priority": job.spec.priority}
        await self._connection.execute(pg.insert(waiting).values(values).on_conflict_do_nothing())

    async def leave(self, job: Job) -> bool:
        """It does not, any more. Says whether it did."""
        is_it = sa.and_(waiting.c.project == job.project, waiting.c.job_id == job.id)
        return (await self._connection.execute(sa.delete(waiting).where(is_it))).rowcount == 1

    async def ahead(self, job: Job) -> int:
        """How many jobs of its project wait before it."""
        query = sa.select(sa.func.count()).select_from(_waiting(job.project)).where(_before(job))
        return int((await self._connection.execute(query)).scalar_one())

    async def is_waiting(self, job: Job) -> bool:
        """Whether the job waits for its project's quota."""
        is_it = sa.exists().where(waiting.c.project == job.project, waiting.c.job_id == job.id)
        return bool((await self._connection.execute(sa.select(is_it))).scalar_one())

    async def recount(self, project: str) -> bool:
        """Make what is taken the sum of what is there, as it is unless a release worked here that knows no quotas."""
        await self.lock(project)
        mine = sa.and_(attempts.c.project == project, attempts.c.phase.in_(LIVE), attempts.c.admitted)
        sums = [sa.func.coalesce(sa.func.sum(attempts.c[name]), 0) for name in TAKEN]
        found = (await self._connection.execute(sa.select(*sums, sa.func.count()).where(mine))).one()
        taken = dict(zip((*(f"used_{name}" for name in TAKEN), "used_jobs"), found, strict=True))
        differs = sa.or_(*(quotas.c[name] != value for name, value in taken.items()))
        return (
            await self._connection.execute(sa.update(quotas).where(_of(project), differs).values(taken))
        ).rowcount > 0


def _of(project: str) -> sa.ColumnElement[bool]:
    return quotas.c.project == project


def _row(project: str) -> sa.Select[Any]:
    return sa.select(quotas, NOW.label("now")).where(_of(project))


def _waiting(project: str) -> sa.FromClause:
    """Those of the queue that really wait: the row of one that has ended is nobody's."""
    # A subquery, so that whoever joins it need not know.
    return (
        sa.select(waiting.c.job_id, waiting.c.priority)
        .join(jobs, sa.and_(jobs.c.project == waiting.c.project, jobs.c.id == waiting.c.job_id))
        .where(waiting.c.project == project, jobs.c.phase.not_in(FINAL), ~jobs.c.cancel_requested)
        .subquery("queue")
    )


def first_waiting(project: str) -> sa.Select[Any]:
    """The job that is let in next."""
    queue = _waiting(project)
    return sa.select(queue.c.job_id).order_by(queue.c.priority.desc(), queue.c.job_id).limit(1)


def _before(job: Job) -> sa.ColumnElement[bool]:
    priority, job_id = sa.column("priority", sa.Integer), sa.column("job_id", sa.Uuid)
    return sa.or_(priority > job.spec.priority, sa.and_(priority == job.spec.priority, job_id < job.id))


def admission(job: Job) -> sa.CTE:
    """The project's row, with what the job asks for added to it; no row, when it does not fit or is not its turn."""
    asked = dict(zip(TAKEN, (job.spec.asks.cpu_millis, job.spec.asks.memory_bytes, job.spec.asks.gpus), strict=True))
    asked["jobs"] = 1
    # Who asks for nothing of a kind is not kept out by how much of it others had before the limit was lowered.
    fits = [
        sa.or_(quotas.c[name].is_(None), quotas.c[f"used_{name}"] + more <= quotas.c[name])
        for name, more in asked.items()
        if more
    ]
    turn = ~sa.exists(sa.select(sa.literal(1)).select_from(_waiting(job.project)).where(_before(job)))
    taken = {f"used_{name}": quotas.c[f"used_{name}"] + more for name, more in asked.items()}
    return (
        sa.update(quotas).where(_of(job.project), turn, *fits).values(taken).returning(quotas.c.project).cte("admitted")
    )


def given_back(ended: sa.CTE) -> sa.CTE:
    """The project's row, without what the attempt has taken."""
    names = [*TAKEN, "jobs"]
    less = [*(ended.c[name] for name in TAKEN), sa.literal(1)]
    back = {f"used_{name}": quotas.c[f"used_{name}"] - it for name, it in zip(names, less, strict=True)}
    return (
        sa.update(quotas)
        .where(quotas.c.project == ended.c.project, ended.c.admitted)
        .values(back)
        .returning(quotas.c.project)
        .cte("given_back")
    )
