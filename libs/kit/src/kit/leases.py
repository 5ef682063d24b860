"""Leases on the rows of any table: a due row is the queue entry, its fence says whose answer counts.

A table that is reconciled has `id`, `project`, `phase` and the columns made by `columns()`. Due times and leases are
made and compared in SQL, on the database's clock; no replica's own clock counts.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import tracing
from kit.db import NOW
from kit.metrics import LEASES_LOST


def columns() -> list[sa.Column[object]]:
    return [
        # Counts the changes of what is wanted, so that nobody records an answer to an older question.
        sa.Column("generation", sa.Integer, nullable=False, server_default="1"),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, server_default=sa.func.clock_timestamp()),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        # Of the request that made the row: what is done about it goes on with the same trace.
        tracing_column(),
    ]


def tracing_column() -> sa.Column[object]:
    """Whose trace a row belongs to. It fills itself in."""
    return sa.Column("traceparent", sa.Text, nullable=True, default=tracing.traceparent.get)


class LeaseLost(Exception):
    """Somebody else has the row by now."""


@dataclass(frozen=True)
class Lease:
    project: str
    id: uuid.UUID
    fence: int
    """Raised at every claim, so that nothing an earlier owner writes is recorded."""
    traceparent: str | None = None
    """The trace that the row belongs to."""


async def lease_due(
    connection: AsyncConnection,
    table: sa.Table,
    limit: int,
    *,
    ttl: timedelta,
    where: Sequence[sa.ColumnElement[bool]] = (),
) -> Sequence[Lease]:
    """Lease the rows that are due, oldest first. A lease that nobody gave back runs out."""
    due = (
        sa.select(table.c.id)
        .where(table.c.due_at <= NOW, sa.or_(table.c.lease_until.is_(None), table.c.lease_until < NOW), *where)
        .order_by(table.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    update = (
        sa.update(table)
        .where(table.c.id == due.c.id)
        .values(fence=table.c.fence + 1, lease_until=NOW + ttl)
        .returning(table.c.project, table.c.id, table.c.fence, table.c.traceparent)
    )
    return [Lease(*row) for row in await connection.execute(update)]


async def record(
    connection: AsyncConnection,
    table: sa.Table,
    lease: Lease,
    *,
    generation: int,
    final: Collection[str],
    due_in: timedelta | None,
    **values: object,
) -> bool:
    """Record what the owner of `lease` found for the row it saw at `generation`, and give the lease back.

    The row is looked at again after `due_in`, or when it is woken if that is None. False, and nothing is recorded,
    when another replica has the row by now, when something else is wanted of it by now (it then stays due), or when
    `values` would change the phase of a row that is in a `final` one.
    """
    mine = sa.and_(table.c.id == lease.id, table.c.project == lease.project, table.c.fence == lease.fence)
    guards = [table.c.phase.not_in(sorted(final))] if "phase" in values else []
    due_at = None if due_in is None else NOW + due_in
    recorded = await connection.execute(
        sa.update(table)
        .where(mine, table.c.generation == generation, *guards)
        .values({"lease_until": None, "due_at": due_at, **values})
    )
    if recorded.rowcount == 1:
        return True
    # Giving back is not answering: it is right for every generation, and still only for the lease's owner.
    given_back = await connection.execute(sa.update(table).where(mine).values(lease_until=None))
    LEASES_LOST.labels(table.name).inc(1 - given_back.rowcount)
    return False


async def extend(connection: AsyncConnection, table: sa.Table, lease: Lease, *, ttl: timedelta) -> bool:
    """Keep the lease for longer. False when it is somebody else's by now, or was given back: stop working."""
    mine = sa.and_(table.c.id == lease.id, table.c.project == lease.project, table.c.fence == lease.fence)
    # One that was given back a moment ago would otherwise be taken back, and hold the row up until it runs out.
    held = table.c.lease_until.is_not(None)
    kept = await connection.execute(sa.update(table).where(mine, held).values(lease_until=NOW + ttl))
    return kept.rowcount == 1


@contextlib.asynccontextmanager
async def kept(engine: AsyncEngine, table: sa.Table, lease: Lease, *, ttl: timedelta) -> AsyncIterator[None]:
    """Keep the lease while the block runs.

    Raises:
        LeaseLost: it is somebody else's by now; the block was cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(_beat(engine, table, lease, ttl))
            yield
            beat.cancel()
    except BaseExceptionGroup as found:
        # What the block raised, as if there were no group; but what it raises on being cancelled is not the reason.
        reasons = sorted(found.exceptions, key=lambda each: not isinstance(each, LeaseLost))
        raise reasons[0] from reasons[0].__cause__


async def _beat(engine: AsyncEngine, table: sa.Table, lease: Lease, ttl: timedelta) -> None:
    while True:
        await asyncio.sleep(ttl.total_seconds() / 3)
        try:
            async with engine.begin() as connection:
                mine = await extend(connection, table, lease, ttl=ttl)
        except SQLAlchemyError:
            continue  # without the database nobody can take the lease either
        if not mine:
            LEASES_LOST.labels(table.name).inc()
            raise LeaseLost


async def wake(connection: AsyncConnection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    """Make the rows due now that were to be looked at later or never. Says how many."""
    woken = await connection.execute(
        sa.update(table).where(*where, sa.or_(table.c.due_at.is_(None), table.c.due_at > NOW)).values(due_at=NOW)
    )
    return woken.rowcount


async def hint(connection: AsyncConnection, service: str) -> None:
    """Tell the reconcilers of `service` that something is due, once this transaction commits."""
    await connection.execute(sa.select(sa.func.pg_notify(f"{service}_due", "")))
