"""The loop that every controller of the suite runs: claim what is due, reconcile each, repeat."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import backlog, leases, tracing
from kit.db import ALIVE
from kit.metrics import AWAY, LEASED, STEP_SECONDS, STEPS
from kit.problems import is_lost_database

log = logging.getLogger(__name__)
C = TypeVar("C")

RECONNECT = 1.0


async def run(
    claim: Callable[[int], Awaitable[Sequence[C]]],
    reconcile: Callable[[C], Awaitable[None]],
    *,
    workers: int,
    poll: float,
    wakeup: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Run until `stop` is set, then finish what is under way and return.

    `wakeup` is only a hint that something is due: losing one costs a poll (seconds), never an update.
    """
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            wakeup.clear()
            for item in await _guard(claim(workers - len(running)), "claim") or ():
                task = group.create_task(_guard(reconcile(item), f"reconcile {item}"))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: wakeup.set())
            if len(running) < workers:
                await first(wakeup, stop, seconds=poll)
            else:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


async def controller(
    engine: AsyncEngine,
    table: sa.Table,
    reconcile: Callable[[leases.Lease], Awaitable[None]],
    *,
    ttl: timedelta = timedelta(seconds=30),
    workers: int = 8,
    poll: float = 0.5,
    wakeup: asyncio.Event | None = None,
    stop: asyncio.Event,
) -> None:
    """Reconcile the due rows of `table` until `stop` is set."""

    async def claim(limit: int) -> Sequence[leases.Lease]:
        async with engine.begin() as connection:
            leased = await leases.lease_due(connection, table, limit, ttl=ttl)
        LEASED.labels(table.name).inc(len(leased))
        return leased

    async def look(lease: leases.Lease) -> None:
        await _look(table, reconcile, lease)

    async with asyncio.TaskGroup() as group:
        group.create_task(backlog.watch(engine, due=table, counted=table, stop=stop))
        await run(claim, look, workers=workers, poll=poll, wakeup=wakeup or asyncio.Event(), stop=stop)


async def _look(table: sa.Table, reconcile: Callable[[leases.Lease], Awaitable[None]], lease: leases.Lease) -> None:
    """One look at a leased row: counted, timed, and a span of the trace that the row belongs to."""
    began, outcome = time.perf_counter(), "done"
    # What belongs to no trace any more, or is from before traces were kept, leaves no span: it is looked at for ever.
    about = tracing.quietly() if lease.traceparent is None else _span(table, lease, lease.traceparent)
    try:
        with about:
            await reconcile(lease)
    except Exception as exc:
        outcome = "database-away" if is_lost_database(exc) else "failed"
        raise
    finally:
        STEPS.labels(table.name, outcome).inc()
        STEP_SECONDS.labels(table.name).observe(time.perf_counter() - began)


@contextlib.contextmanager
def _span(table: sa.Table, lease: leases.Lease, parent: str) -> Iterator[None]:
    with tracing.span(f"reconcile {table.name}", parent=parent):
        tracing.note(id=str(lease.id), project=lease.project)
        yield


async def every(seconds: float, act: Callable[[], Awaitable[object]], *, stop: asyncio.Event) -> None:
    """Do `act` now and then again every so many seconds, jittered, until `stop` is set. Failures are logged."""
    while not stop.is_set():
        await _guard(act(), "periodic work")
        # Replicas that started together must not sweep together for ever.
        await first(stop, seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret


async def listen(url: str, service: str, *, wakeup: asyncio.Event, stop: asyncio.Event) -> None:
    """Set `wakeup` at every NOTIFY for `service`. A hint: while the database is away, the poll goes on."""
    while not stop.is_set():
        try:
            await _listen_once(url.replace("+psycopg", ""), service, wakeup, stop)
        except (psycopg.Error, OSError):
            await first(stop, seconds=RECONNECT)


async def _listen_once(url: str, service: str, wakeup: asyncio.Event, stop: asyncio.Event) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2, **ALIVE) as connection:
        await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(f"{service}_due")))
        wakeup.set()  # what came while nobody listened
        while not stop.is_set():
            async for _ in connection.notifies(timeout=1, stop_after=1):
                wakeup.set()


async def _guard(work: Awaitable[C], what: str) -> C | None:
    # One bad item must not stop the loop. Its claim expires, so that it is tried again.
    try:
        return await work
    except Exception as exc:
        if is_lost_database(exc):
            AWAY.labels("database").inc()
            log.warning("database unavailable", extra={"work": what})
            await asyncio.sleep(random.uniform(0.5, 1.0))  # noqa: S311 - at most one reconnect a second
        else:
            log.exception("failed", extra={"work": what})
        return None


async def first(*events: asyncio.Event, seconds: float) -> None:
    """Wait until one of the events is set, or for so many seconds."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
