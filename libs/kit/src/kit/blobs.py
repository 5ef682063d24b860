"""Blobs: immutable bytes of one service (kit.blob_store), the rows that name them (kit.blob_rows), and their end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blob_rows
from kit.blob_rows import FRESH, SETTLE, BlobCollected, BlobNotFound, find, link, record, unlink
from kit.blob_store import Blob, BlobStore, Found, Staged
from kit.metrics import COLLECTED

__all__ = [
    "Blob",
    "BlobCollected",
    "BlobNotFound",
    "BlobStore",
    "Collected",
    "Staged",
    "collect",
    "find",
    "link",
    "record",
    "unlink",
]

GRACE = timedelta(hours=24)
BATCH = 200


@dataclass(frozen=True)
class Collected:
    """What one collection did."""

    condemned: int
    orphans: int
    deleted: int
    forgotten: int
    stale: int


async def collect(
    engine: AsyncEngine,
    store: BlobStore,
    *,
    grace: timedelta = GRACE,
    settle: timedelta = SETTLE,
    stale: timedelta = GRACE,
    clock: Callable[[], float] = time.monotonic,
) -> Collected:
    """Move everything that nothing needs one step nearer to its end. Any number of replicas may do so at once.

    `grace` is that of blobs nobody links, `stale` that of bytes nobody published; `settle` is kept between the steps.
    """
    async with engine.begin() as connection:
        condemned = await blob_rows.condemn(connection, grace, limit=10 * BATCH)
    orphans, deleted = await _adopt_orphans(engine, store, grace), await _delete_all(engine, store, settle, clock)
    async with engine.begin() as connection:
        forgotten = await blob_rows.forget(connection, settle)
    removed = await store.remove_stale(datetime.now(UTC) - stale)
    COLLECTED.labels("blobs").inc(deleted)
    COLLECTED.labels("staged").inc(removed)
    return Collected(condemned, orphans, deleted, forgotten, removed)


async def _adopt_orphans(engine: AsyncEngine, store: BlobStore, grace: timedelta) -> int:
    """Objects without a row: their process died before it could record them."""
    adopted, older_than = 0, datetime.now(UTC) - grace
    async for page in store.blobs():
        old = [_named(found) for found in page if found.digest is not None and found.modified < older_than]
        for start in range(0, len(old), BATCH):
            async with engine.begin() as connection:
                adopted += await blob_rows.adopt(connection, old[start : start + BATCH])
    return adopted


def _named(found: Found) -> tuple[str, str, int]:
    return found.project or "", found.digest or "", found.size


async def _delete_all(engine: AsyncEngine, store: BlobStore, settle: timedelta, clock: Callable[[], float]) -> int:
    deleted, batch = 0, 1
    while batch:
        batch = await _delete_some(engine, store, settle, clock)
        deleted += batch
    return deleted


async def _delete_some(engine: AsyncEngine, store: BlobStore, settle: timedelta, clock: Callable[[], float]) -> int:
    async with engine.begin() as connection:
        read_at = clock()
        batch = await blob_rows.dying(connection, settle, limit=BATCH)
    deleted = 0
    for project, digest in batch:
        # What was read longer ago may be another upload's by now: somebody else's collection may have gone on.
        if clock() - read_at > FRESH.total_seconds():
            break
        await store.delete(project, digest)
        async with engine.begin() as connection:
            await blob_rows.bury(connection, project, digest)
        deleted += 1
    return deleted
