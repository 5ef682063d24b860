"""What attempts took, for good: a row for each day and each author, written by the statement that ends the attempt.

What runs just now is added when it is asked for. Every statement about the usage table is in this file.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from trainer.domain.leased import AttemptPhase
from trainer.domain.resources import CORE
from trainer.domain.sharing import Took
from trainer.store.tables import attempts, jobs, usage

GIB = float(1 << 30)
SUMS = ("core_seconds", "gib_seconds", "gpu_seconds", "attempts")
_DAY = sa.text("interval '1 day'")


class LedgerStore:
    """Reads what was taken in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def core_seconds(self, project: str, since: datetime) -> float:
        """What was spent since the midnight, with what runs now."""
        taken = _all(project, since.date(), None)
        query = sa.select(sa.func.coalesce(sa.func.sum(taken.c.core_seconds), 0.0))
        return float((await self._connection.execute(query)).scalar_one())

    async def report(
        self, project: str, *, first: date, last: date, by: Literal["day", "subject"], limit: int
    ) -> Sequence[Took]:
        """What was taken on these days, with what runs now: by day in their order, by author the greatest first."""
        taken = _all(project, first, last)
        name, sums = taken.c[by], [sa.func.sum(taken.c[each]).label(each) for each in SUMS]
        order = name if by == "day" else sa.desc("core_seconds")
        query = sa.select(name.label("name"), *sums).group_by(name).order_by(order).limit(limit)
        return [_took(row) for row in await self._connection.execute(query)]

    async def total(self, project: str, *, first: date, last: date) -> Took:
        """All that was taken on these days."""
        taken = _all(project, first, last)
        sums = [sa.func.coalesce(sa.func.sum(taken.c[each]), 0).label(each) for each in SUMS]
        query = sa.select(sa.literal(project).label("name"), *sums)
        return _took((await self._connection.execute(query)).one())


def _took(row: sa.Row[Any]) -> Took:
    took = {each: float(row._mapping[each]) for each in SUMS[:3]}
    return Took(str(row.name), took["core_seconds"], took["gib_seconds"], took["gpu_seconds"], int(row.attempts))


def _all(project: str, first: date, last: date | None) -> sa.Subquery:
    """Rows of the ledger, and such rows of what runs now."""
    written = sa.select(usage.c.day, usage.c.subject, *(usage.c[name] for name in SUMS)).where(
        usage.c.project == project
    )
    now = sa.select(NOW.label("now")).cte("now")
    runs = (
        sa.select(*(attempts.c[name] for name in _READ), now.c.now.label("finished_at"))
        .join(now, sa.true())
        .where(attempts.c.project == project, attempts.c.phase == AttemptPhase.RUNNING)
        .subquery("runs")
    )
    running = _by_day(runs).subquery("running")
    lives = sa.select(running.c.day, running.c.subject, *(running.c[name] for name in SUMS[:3]), sa.literal(0))
    both = sa.union_all(written, lives).subquery("both")
    within = [both.c.day >= first] + ([] if last is None else [both.c.day <= last])
    return sa.select(both).where(*within).subquery("taken")


_READ = ("project", "job_id", "cpu_millis", "memory_bytes", "gpus", "started_at")


def _by_day(source: sa.FromClause) -> sa.Select[Any]:
    """What each attempt of the source took, on each day that it ran: as the rows of the ledger are."""
    first = sa.func.date_trunc("day", source.c.started_at)
    each = sa.func.generate_series(first, source.c.finished_at, _DAY, type_=sa.DateTime(timezone=True))
    day = each.column_valued("days", joins_implicitly=True)
    began, left = sa.func.greatest(source.c.started_at, day), sa.func.least(source.c.finished_at, day + _DAY)
    seconds = sa.cast(sa.func.extract("epoch", left - began), sa.Double)
    return (
        sa.select(
            source.c.project,
            sa.cast(day, sa.Date).label("day"),
            jobs.c.subject,
            (source.c.cpu_millis * seconds / float(CORE)).label("core_seconds"),
            (source.c.memory_bytes * seconds / GIB).label("gib_seconds"),
            (source.c.gpus * seconds).label("gpu_seconds"),
            sa.case((left == source.c.finished_at, 1), else_=0).label("attempts"),
        )
        .select_from(source)
        .join(jobs, sa.and_(jobs.c.project == source.c.project, jobs.c.id == source.c.job_id))
    )


def charged(ended: sa.CTE) -> sa.CTE:
    """What the attempt took is written down."""
    statement = pg.insert(usage).from_select(["project", "day", "subject", *SUMS], _by_day(ended))
    more = {name: usage.c[name] + statement.excluded[name] for name in SUMS}
    return (
        statement.on_conflict_do_update(index_elements=list(usage.primary_key), set_=more)
        .returning(usage.c.project)
        .cte("charged")
    )
