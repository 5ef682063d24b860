"""Replicas of the reconciler, as tests of ingest run them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.domain.reports import Task
from ingest.domain.versions import Ended
from ingest.parser.parse import parse
from ingest.reconcile import Parser, Reconciler
from ingest.store.tables import versions
from kit import leases
from kit.blobs import BlobStore


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
