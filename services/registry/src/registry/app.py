"""Where the registry is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import audit, events, holds, idempotency, links, reconcile
from kit import blobs as kit_blobs
from kit.app import Service, assemble, make_api
from kit.blobs import BlobStore
from kit.db import make_engine
from kit.downloads import Downloads
from kit.tokens import load_verifier
from registry.actions import SERVICE, find_held
from registry.api import aliases, attestations, blobs, models, versions
from registry.api.state import Parts, Turns
from registry.api.uploads import Uploads
from registry.settings import Settings

FOLLOWERS = ("gateway", "ingest", "pipelines", "serving", "trainer")
"""Who may read the feed of events."""
HOLDERS = ("pipelines", "serving", "trainer")
"""Who may say that it needs a version."""
HOURLY, OFTEN = 3600.0, 600.0
EVENTS_KEPT = timedelta(days=7)
# More than others: 100 at once register versions of one model, and users still read beside them.
CONNECTIONS = 8
# What users have sent is looked into by plain code, which shares its processor with all other requests.
LOOKS, LOOKING = 2, timedelta(seconds=30)


def create_app(settings: Settings) -> Service:
    """The API. It opens its connections when it starts, and needs none of them to start."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url, connections=CONNECTIONS)
        store = BlobStore(settings.objects_url, SERVICE, public_url=settings.objects_public_url)
        parts = Parts(
            blobs=store,
            turns=Turns(settings.changes),
            looks=Turns(LOOKS, patience=LOOKING),
            uploads=Uploads(settings.open_uploads),
            file_bytes=settings.file_bytes,
            key=json.loads(settings.private_key_file.read_bytes())["keys"][-1],
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
    for router in (
        models.router,
        versions.router,
        versions.internal,
        attestations.router,
        aliases.router,
        blobs.router,
        blobs.internal,
    ):
        api.include_router(router)
    api.include_router(events.router(issuers=FOLLOWERS))
    api.include_router(holds.router(find_held, issuers=HOLDERS))
    api.include_router(audit.router())
    api.include_router(links.router(SERVICE))
    return assemble(
        api,
        verifier=load_verifier(settings.public_keys_file, SERVICE),
        by_link=links.authenticator(links.load_verifier(settings.public_keys_file)),
    )


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """Put away what nobody needs any more, until `stop` is set. Nothing here waits for a reconciler."""
    engine = make_engine(settings.url, connections=3)
    store = BlobStore(settings.objects_url, SERVICE)
    try:
        await _upkeep(settings, engine, store, stop)
    finally:
        await engine.dispose()


async def _upkeep(settings: Settings, engine: AsyncEngine, store: BlobStore, stop: asyncio.Event) -> None:
    """What every replica does from time to time. Each can be done twice, and by two at once."""
    async with asyncio.TaskGroup() as group:

        def every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
            group.create_task(reconcile.every(seconds, act, stop=stop))

        every(settings.collect_seconds, lambda: kit_blobs.collect(engine, store))
        every(OFTEN, lambda: idempotency.purge(engine))
        every(HOURLY, lambda: events.prune(engine, EVENTS_KEPT))
