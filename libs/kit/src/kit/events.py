"""Every service's own feed of what happened, and how another one follows it without losing or doubling anything.

An event is written in the transaction of its effect. A reader sees only what lies below the oldest transaction that is
still running: ids are given before commits are, so a reader that took whatever is there would skip a late commit.

    GET /internal/v1/events?after=CURSOR&wait=30s
        → {"events": [{"id", "project", "kind", "subject", "data", "at"}], "cursor"}
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors
from kit.callers import CallerDep, Role, requires
from kit.db import NOW, Engine
from kit.metrics import COLLECTED, EVENT_LAG, EVENTS_APPLIED, EVENTS_FAILED, EVENTS_READ
from kit.problems import is_lost_database
from kit.reconcile import first
from kit.tables import event_cursors, events
from kit.waiting import Wait, until

log = logging.getLogger(__name__)
BATCH = 500
START = "0:0"
PAUSE = 1.0


class CursorInvalid(errors.Invalid): ...


class Event(BaseModel):
    id: str
    """Unique within its source, and the cursor behind it."""
    project: str
    kind: str
    subject: str
    data: dict[str, Any]
    at: datetime
    traceparent: str | None = None
    """The trace in which it happened."""


class Feed(BaseModel):
    events: list[Event]
    cursor: str


Fetch = Callable[[str], Awaitable[Feed]]
"""What follows a cursor, at the owner of the feed. It may take half a minute when nothing happens."""
Apply = Callable[[AsyncConnection, Sequence[Event]], Awaitable[None]]
"""Records what events mean here, in the transaction that also moves the cursor."""


async def emit(connection: AsyncConnection, project: str, kind: str, subject: str, data: Mapping[str, Any]) -> None:
    """Say what happened, in the transaction in which it happens."""
    values = {"project": project, "kind": kind, "subject": subject, "data": dict(data)}
    await connection.execute(sa.insert(events).values(values))


async def read(connection: AsyncConnection, after: str, *, limit: int = BATCH) -> Feed:
    """The events behind a cursor, in the order in which every reader sees them.

    Raises:
        CursorInvalid: no feed gave this cursor.
    """
    xid, number = _parts(after)
    oldest = sa.text("(pg_snapshot_xmin(pg_current_snapshot())::text)::bigint")
    behind = sa.tuple_(events.c.xid, events.c.id) > sa.tuple_(sa.literal(xid), sa.literal(number))
    query = (
        sa.select(events)
        .where(behind, events.c.xid < sa.select(oldest).scalar_subquery())
        .order_by(events.c.xid, events.c.id)
        .limit(limit)
    )
    found = [
        Event(
            id=f"{row.xid}:{row.id}",
            project=row.project,
            kind=row.kind,
            subject=row.subject,
            data=row.data,
            at=row.created_at,
            traceparent=row.traceparent,
        )
        for row in await connection.execute(query)
    ]
    return Feed(events=found, cursor=found[-1].id if found else after)


async def prune(engine: AsyncEngine, age: timedelta, *, limit: int = 10_000) -> int:
    """Forget events that everybody has seen long ago. Says how many."""
    # By id, in which the oldest come first, so that a batch is found without reading the whole feed.
    old = sa.select(events.c.id).where(events.c.created_at < NOW - age).order_by(events.c.id)
    batch = old.limit(limit).with_for_update(skip_locked=True)
    forgotten, full = 0, True
    while full:
        # Each in a transaction of its own, which stays far below the limit of a statement.
        async with engine.begin() as connection:
            found = (await connection.execute(sa.delete(events).where(events.c.id.in_(batch)))).rowcount
        forgotten, full = forgotten + found, found >= limit
    COLLECTED.labels("events").inc(forgotten)
    return forgotten


async def follow(engine: AsyncEngine, source: str, fetch: Fetch, apply: Apply, *, stop: asyncio.Event) -> None:
    """Apply every event of `source` exactly once, in order, until `stop` is set. Any number of replicas may do so.

    What cannot be applied is tried again, and holds back what follows it.
    """
    stopped = asyncio.create_task(stop.wait())
    asking: set[asyncio.Task[Any]] = {stopped}
    try:
        while not stop.is_set():
            asking = {stopped, asyncio.create_task(_attempt(engine, source, fetch, apply, stop))}
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # In the middle of a long poll: what it was about to bring is still there at the next start.
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _attempt(engine: AsyncEngine, source: str, fetch: Fetch, apply: Apply, stop: asyncio.Event) -> None:
    try:
        await _follow_once(engine, source, fetch, apply)
    except Exception as exc:
        EVENTS_FAILED.labels(source).inc()
        if isinstance(exc, errors.Unavailable) or is_lost_database(exc):
            log.info("feed not followed just now", extra={"source": source, "error": type(exc).__name__})
        else:
            log.exception("feed not followed", extra={"source": source})
        await first(stop, seconds=PAUSE)


async def _follow_once(engine: AsyncEngine, source: str, fetch: Fetch, apply: Apply) -> None:
    async with engine.begin() as connection:
        cursor = await _cursor(connection, source)
    feed = await fetch(cursor)
    if feed.events:
        async with engine.begin() as connection:
            if moved := await _move(connection, source, cursor, feed.cursor):
                await apply(connection, feed.events)
        EVENTS_APPLIED.labels(source).inc(len(feed.events) if moved else 0)
    # On two clocks, so that it may be a little off; as a sign of falling behind it will do.
    oldest = feed.events[-1].at.timestamp() if len(feed.events) >= BATCH else time.time()
    EVENT_LAG.labels(source).set(max(0.0, time.time() - oldest))
    EVENTS_READ.labels(source).set(time.time())


async def _cursor(connection: AsyncConnection, source: str) -> str:
    query = sa.select(event_cursors.c.cursor).where(event_cursors.c.source == source)
    found = (await connection.execute(query)).scalar_one_or_none()
    return START if found is None else found


async def _move(connection: AsyncConnection, source: str, before: str, after: str) -> bool:
    """Move the cursor, unless another replica has. Its row stays locked until the effect is committed."""
    made = pg.insert(event_cursors).values(source=source, cursor=START).on_conflict_do_nothing()
    await connection.execute(made)
    mine = sa.and_(event_cursors.c.source == source, event_cursors.c.cursor == before)
    return (await connection.execute(sa.update(event_cursors).where(mine).values(cursor=after))).rowcount == 1


def router(*, issuers: Collection[str]) -> APIRouter:
    """The feed of a service, for the others: of all projects, so that it is for services alone."""
    routes = APIRouter(prefix="/internal/v1/events", include_in_schema=False)

    @routes.get("")
    @requires(Role.VIEWER, issuers=issuers)
    async def read_events(
        caller: CallerDep, engine: Engine, wait: Wait, after: Annotated[str, Query(max_length=60)] = START
    ) -> Feed:
        async def look() -> Feed:
            async with engine.begin() as connection:
                return await read(connection, after)

        return await until(look, lambda feed: bool(feed.events), wait)

    return routes


def _parts(cursor: str) -> tuple[int, int]:
    xid, _, number = cursor.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (xid, number)):
        raise CursorInvalid("No feed gave this cursor.", errors=[{"pointer": "?after", "detail": "is not a cursor"}])
    return int(xid), int(number)
