"""Where ingest is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import actions
from ingest.actions import SERVICE, Assemblies, Quota, Uploads
from ingest.api import assemblies, datasets, uploads, versions
from ingest.api.state import Parts
from ingest.clients.parser import ChildParser
from ingest.domain.reports import Limits
from ingest.reconcile import TTL, Reconciler, sweep
from ingest.settings import Settings
from ingest.store.pages import Pages
from ingest.store.tables import versions as versions_table
from kit import audit, blobs, events, holds, idempotency, links, reconcile
from kit.app import Service, assemble, make_api
from kit.blobs import BlobStore
from kit.db import make_engine
from kit.downloads import Downloads
from kit.tokens import load_verifier

FOLLOWERS = ("gateway", "pipelines", "registry", "serving", "trainer")
"""Who may read the feed of events."""
HOLDERS = ("pipelines", "serving", "trainer")
"""Who may say that it needs a version."""
HOURLY, OFTEN = 3600.0, 600.0
EVENTS_KEPT = timedelta(days=7)
PARTS_KEPT, ENDS_KEPT = timedelta(days=30), timedelta(days=7)
"""How long parts wait for the next one, and how long it is known that they became a version."""
ENGINE = 256 / 600
"""The share of a parser's memory that its engine may hold; the rest is what the engine does not count."""
LEFT = timedelta(hours=1)
"""Beyond the longest parse: folders that are older have nobody any more."""


def create_app(settings: Settings) -> Service:
    """The API. It opens its connections when it starts, and needs none of them to start."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        store = _store(settings)
        quota = Quota(bytes=settings.upload_bytes, uploads=settings.open_uploads)
        parts = Parts(
            blobs=store,
            uploads=Uploads(engine, store, quota),
            assemblies=Assemblies(engine, store, largest=quota.bytes),
            pages=Pages(store, settings.work_dir),
        )
        try:
            yield {
                "engine": engine,
                "parts": parts,
                "downloads": Downloads(store),
                "links": links.load_links(settings.private_key_file, store),
            }
        finally:
            await engine.dispose()

    api = make_api(SERVICE, lifespan)
    for router in (uploads.router, datasets.router, versions.router, assemblies.router, audit.router()):
        api.include_router(router)
    api.include_router(events.router(issuers=FOLLOWERS))
    api.include_router(holds.router(actions.find_held, issuers=HOLDERS))
    api.include_router(links.router(SERVICE))
    return assemble(
        api,
        verifier=load_verifier(settings.public_keys_file, SERVICE),
        by_link=links.authenticator(links.load_verifier(settings.public_keys_file)),
    )


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """Parse what is due, and put away what nobody needs any more, until `stop` is set."""
    engine = make_engine(settings.url, connections=3 + settings.workers)
    store = _store(settings)
    wakeup = asyncio.Event()
    worker = _reconciler(settings, engine, store)
    work = reconcile.controller(
        engine, versions_table, worker.reconcile, ttl=TTL, workers=settings.workers, wakeup=wakeup, stop=stop
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            group.create_task(reconcile.listen(settings.url, SERVICE, wakeup=wakeup, stop=stop))
            group.create_task(_upkeep(settings, engine, store, stop))
    finally:
        await engine.dispose()


async def _upkeep(settings: Settings, engine: AsyncEngine, store: BlobStore, stop: asyncio.Event) -> None:
    """What every replica does from time to time. Each can be done twice, and by two at once."""
    failed = timedelta(days=settings.failed_days)
    left = LEFT + timedelta(seconds=2 * settings.parser_seconds)
    parts = Assemblies(engine, store, largest=settings.upload_bytes)
    async with asyncio.TaskGroup() as group:

        def every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
            group.create_task(reconcile.every(seconds, act, stop=stop))

        every(settings.collect_seconds, lambda: blobs.collect(engine, store))
        every(OFTEN, lambda: idempotency.purge(engine))
        every(OFTEN, lambda: actions.forget_uploads(engine))
        every(HOURLY, lambda: actions.retire_failed(engine, failed))
        every(HOURLY, lambda: events.prune(engine, EVENTS_KEPT))
        every(HOURLY, lambda: parts.sweep(PARTS_KEPT, ENDS_KEPT))
        every(HOURLY, lambda: sweep(settings.work_dir, left))


def _reconciler(settings: Settings, engine: AsyncEngine, store: BlobStore) -> Reconciler:
    parser = ChildParser(memory=settings.parser_memory_bytes, deadline=timedelta(seconds=settings.parser_seconds))
    limits = Limits(unpacked=settings.unpacked_bytes, memory=int(settings.parser_memory_bytes * ENGINE))
    return Reconciler(engine, store, parser, settings.work_dir, limits=limits)


def _store(settings: Settings) -> BlobStore:
    settings.work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return BlobStore(settings.objects_url, SERVICE, public_url=settings.objects_public_url)
