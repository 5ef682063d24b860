"""How much work waits, as the database knows it: every replica shows the same numbers, so that one of them will do."""

import asyncio
import logging
import math
import time
from collections import defaultdict

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.db import NOW
from kit.metrics import AWAY, DUE, DUE_AGE, PHASES

log = logging.getLogger(__name__)
OFTEN = 5.0
RARELY = 30.0
"""Seconds between two counts of a whole table."""
_seen: defaultdict[str, set[str]] = defaultdict(set)


async def watch(engine: AsyncEngine, *, due: sa.Table | None = None, counted: sa.Table, stop: asyncio.Event) -> None:
    """Show what is due in one table, and the rows of another by phase, until `stop` is set."""
    count_at = 0.0
    while not stop.is_set():
        try:
            if due is not None:
                await show_due(engine, due)
            if time.monotonic() >= count_at:
                await show_phases(engine, counted)
                count_at = time.monotonic() + RARELY
        except (SQLAlchemyError, OSError) as exc:
            # What is not known is not shown: an old number would look like a new one.
            AWAY.labels("database").inc()
            if due is not None:
                DUE.labels(due.name).set(math.nan)
                DUE_AGE.labels(due.name).set(math.nan)
            log.info("backlog not read", extra={"table": counted.name, "error": type(exc).__name__})
        await _pause(stop)


async def _pause(stop: asyncio.Event) -> None:
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting}, timeout=OFTEN)
    waiting.cancel()


async def show_due(engine: AsyncEngine, table: sa.Table) -> None:
    """The rows that nobody has leased although they are due."""
    is_free = sa.or_(table.c.lease_until.is_(None), table.c.lease_until < NOW)
    age = sa.func.extract("epoch", NOW - sa.func.min(table.c.due_at))
    query = sa.select(sa.func.count(), sa.func.coalesce(age, 0)).where(table.c.due_at <= NOW, is_free)
    async with engine.begin() as connection:
        count, oldest = (await connection.execute(query)).one()
    DUE.labels(table.name).set(count)
    DUE_AGE.labels(table.name).set(float(oldest))


async def show_phases(engine: AsyncEngine, table: sa.Table) -> None:
    """How many rows there are in each phase. One that was left is shown as none."""
    async with engine.begin() as connection:
        found = await connection.execute(
            sa.select(table.c.phase, sa.func.count().label("number")).group_by(table.c.phase)
        )
        counts = {row.phase: row.number for row in found}
    _seen[table.name] |= counts.keys()
    for phase in _seen[table.name]:
        PHASES.labels(table.name, phase).set(counts.get(phase, 0))
