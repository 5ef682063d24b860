"""Replicas of the reconciler, as tests of ingest run them, and what they leave behind."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import actions
from ingest.actions import Quota, Uploads
from ingest.domain.reports import Format, Task
from ingest.domain.versions import Ended, Source, Version
from ingest.parser.parse import parse
from ingest.reconcile import Parser, Reconciler
from ingest.store.tables import versions
from ingest.store.versions import VersionStore
from kit import leases
from kit.blobs import BlobStore
from kit.callers import Caller, Role
from kit.db import NOW
from kit.tables import blob_links, events

ADA = Caller("blue", Role.EDITOR, "ada", "gateway")
SHORT = timedelta(milliseconds=150)
GOOD = b"id,late\n1,true\n2,false\n3\n"


class InlineParser:
    """The real parser, without a process of its own."""

    async def run(self, task: Task) -> Ended:
        return Ended(0, None, parse(task))


class Replica:
    """A reconciler, and the loop that hands it what is due."""

    def __init__(self, engine: AsyncEngine, store: BlobStore, work: Path, parser: Parser) -> None:
        self.engine = engine
        self.store = store
        self.work = work
        self.reconciler = Reconciler(engine, store, parser, work)

    async def claim(self, limit: int = 100, *, ttl: timedelta = timedelta(seconds=30)) -> list[leases.Lease]:
        async with self.engine.begin() as connection:
            return list(await leases.lease_due(connection, versions, limit, ttl=ttl))

    async def run(self) -> int:
        """Reconcile everything that is due. Says how much that was."""
        claimed = await self.claim()
        await asyncio.gather(*(self.reconciler.reconcile(lease) for lease in claimed))
        return len(claimed)


ReplicaOf = Callable[..., Replica]


async def ask(engine: AsyncEngine, store: BlobStore, data: bytes = GOOD) -> Version:
    """A new version of these bytes, as a request makes it."""
    blob = await Uploads(engine, store, Quota(1 << 20, 100)).take("blue", _pieces(data))
    async with engine.begin() as connection:
        await actions.record_upload(connection, ADA, blob)
        source = Source(blob.digest, blob.size, Format.CSV, None)
        return (await actions.make_version(connection, ADA, "flights", source)).version


async def _pieces(data: bytes) -> Any:
    yield data


async def seen(engine: AsyncEngine, version: Version) -> Version:
    async with engine.begin() as connection:
        return await VersionStore(connection).by_id(version.project, version.id)


async def told(engine: AsyncEngine) -> list[tuple[str, str]]:
    async with engine.begin() as connection:
        rows = await connection.execute(sa.select(events.c.kind, events.c.subject).order_by(events.c.id))
        return [(row.kind, row.subject) for row in rows]


async def links(engine: AsyncEngine) -> set[str]:
    async with engine.begin() as connection:
        return set((await connection.execute(sa.select(blob_links.c.digest))).scalars())


async def objects(store: BlobStore) -> set[str]:
    return {found.digest or found.key async for page in store.blobs() for found in page}


async def make_due(engine: AsyncEngine) -> None:
    """As if time had passed: what was put off is due, and leases have run out."""
    async with engine.begin() as connection:
        late = NOW - timedelta(seconds=1)
        await connection.execute(
            sa.update(versions).where(versions.c.due_at.is_not(None)).values(due_at=late, lease_until=late)
        )


class Gate(InlineParser):
    """A parser that waits where a test holds it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.runs = 0

    async def run(self, task: Task) -> Ended:
        self.runs += 1
        self.entered.set()
        await self.open.wait()
        return await super().run(task)


class Lost:
    """A parser that goes without a word."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, task: Task) -> Ended:
        self.runs += 1
        return Ended(-9, None, None)
