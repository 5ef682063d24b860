"""The registry, put together."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from kit import audit, events, holds
from kit.app import Service, assemble, make_api
from kit.blobs import BlobStore
from kit.db import make_engine
from kit.tokens import load_verifier
from registry.actions import SERVICE, find_held
from registry.api import aliases, blobs, models, versions
from registry.api.state import Parts
from registry.reconcile import tidy
from registry.settings import Settings

FOLLOWERS = ("ingest", "trainer", "serving", "pipelines", "gateway")
HOLDERS = ("trainer", "serving", "pipelines")
# More than others: 100 at once register versions of one model, and users still read beside them.
CONNECTIONS = 8


def create_app(settings: Settings) -> Service:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url, connections=CONNECTIONS)
        parts = Parts(
            blobs=BlobStore(settings.objects_url, SERVICE),
            turns=asyncio.Semaphore(settings.registrations),
            file_bytes=settings.file_bytes,
        )
        try:
            yield {"engine": engine, "parts": parts}
        finally:
            await engine.dispose()

    api = make_api(SERVICE, lifespan)
    for router in (models.router, versions.router, versions.internal, aliases.router, blobs.router):
        api.include_router(router)
    api.include_router(events.router(issuers=FOLLOWERS))
    api.include_router(holds.router(find_held, issuers=HOLDERS))
    api.include_router(audit.router())
    return assemble(api, verifier=load_verifier(settings.public_keys_file, SERVICE))


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """All that goes on beside requests."""
    engine = make_engine(settings.url, connections=3)
    store = BlobStore(settings.objects_url, SERVICE)
    try:
        await tidy(engine, store, collect=timedelta(seconds=settings.collect_seconds), stop=stop)
    finally:
        await engine.dispose()
