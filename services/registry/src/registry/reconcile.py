"""What goes on beside requests: nothing here is waited for, so that there is no table to reconcile, only to tidy."""

import asyncio
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blobs, events, idempotency, reconcile
from kit.blobs import BlobStore

KEYS = timedelta(minutes=10)
"""Between two purges of idempotency keys."""
FEED = timedelta(hours=1)
"""Between two prunings of the events feed."""
EVENTS_KEPT = timedelta(days=7)


async def tidy(engine: AsyncEngine, store: BlobStore, *, collect: timedelta, stop: asyncio.Event) -> None:
    """Collect bytes that no version has, purge keys, prune events, until `stop`. Any number of replicas may do so."""
    async with asyncio.TaskGroup() as group:
        group.create_task(reconcile.every(collect.total_seconds(), lambda: blobs.collect(engine, store), stop=stop))
        group.create_task(reconcile.every(KEYS.total_seconds(), lambda: idempotency.purge(engine), stop=stop))
        group.create_task(reconcile.every(FEED.total_seconds(), lambda: events.prune(engine, EVENTS_KEPT), stop=stop))
