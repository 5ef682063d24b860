"""Where pipelines is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import audit, events, idempotency, reconcile
from kit.app import Service, assemble, make_api
from kit.clients import ServiceClient, http_client
from kit.db import make_engine
from kit.tokens import load_signer, load_verifier
from pipelines import actions
from pipelines.actions import SERVICE
from pipelines.api import pipelines, runs
from pipelines.api.state import Parts
from pipelines.clients.expressions import ChildExpressions
from pipelines.clients.ingest import IngestClient
from pipelines.clients.registry import RegistryClient
from pipelines.clients.serving import ServingClient
from pipelines.clients.trainer import TrainerClient
from pipelines.kinds.doing import Neighbours
from pipelines.reconcile import TTL, Reconciler, wake
from pipelines.settings import Settings
from pipelines.store import results
from pipelines.store.tables import steps

FOLLOWERS = ("gateway", "ingest", "registry", "serving", "trainer")
"""Who may read the feed of events."""
HOURLY, OFTEN, MINUTELY = 3600.0, 600.0, 60.0
EVENTS_KEPT = timedelta(days=7)


def create_app(settings: Settings) -> Service:
    """The API. It opens its connections when it starts, and needs none of them to start."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        try:
            yield {"engine": engine, "parts": Parts(_expressions(settings))}
        finally:
            await engine.dispose()

    api = make_api(SERVICE, lifespan)
    for router in (pipelines.router, pipelines.starting, runs.router, audit.router(), events.router(issuers=FOLLOWERS)):
        api.include_router(router)
    return assemble(api, verifier=load_verifier(settings.public_keys_file, SERVICE))


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """Do what is due, follow the neighbours' feeds, and put away what nobody needs any more, until `stop` is set."""
    engine = make_engine(settings.url, connections=6)
    wakeup = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        services = await _services(settings, stack)
        worker = Reconciler(engine, _neighbours(settings, services))
        async with asyncio.TaskGroup() as group:
            group.create_task(
                reconcile.controller(
                    engine, steps, worker.reconcile, ttl=TTL, workers=settings.workers, wakeup=wakeup, stop=stop
                )
            )
            group.create_task(reconcile.listen(settings.url, SERVICE, wakeup=wakeup, stop=stop))
            for name in ("ingest", "trainer", "serving"):
                apply = partial(_wake, name)
                group.create_task(events.follow(engine, name, services[name].events, apply, stop=stop))
            group.create_task(_upkeep(settings, engine, stop))


async def _wake(source: str, connection: Any, happened: Any) -> None:
    await wake(connection, source, happened)


async def _upkeep(settings: Settings, engine: AsyncEngine, stop: asyncio.Event) -> None:
    """What every replica does from time to time. Each can be done twice, and by two at once."""
    async with asyncio.TaskGroup() as group:

        def every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
            group.create_task(reconcile.every(seconds, act, stop=stop))

        every(MINUTELY, lambda: actions.sweep(engine))
        every(OFTEN, lambda: idempotency.purge(engine))
        every(HOURLY, lambda: actions.retire_runs(engine, timedelta(days=settings.run_days)))
        every(HOURLY, lambda: results.prune(engine, timedelta(days=settings.result_days)))
        every(HOURLY, lambda: events.prune(engine, EVENTS_KEPT))


async def _services(settings: Settings, stack: contextlib.AsyncExitStack) -> dict[str, ServiceClient]:
    signer = load_signer(settings.private_key_file)
    urls = {
        "ingest": settings.ingest_url,
        "trainer": settings.trainer_url,
        "registry": settings.registry_url,
        "serving": settings.serving_url,
    }
    return {
        name: ServiceClient(await stack.enter_async_context(http_client(url)), signer, name)
        for name, url in urls.items()
    }


def _neighbours(settings: Settings, services: Mapping[str, ServiceClient]) -> Neighbours:
    return Neighbours(
        ingest=IngestClient(services["ingest"]),
        trainer=TrainerClient(services["trainer"]),
        registry=RegistryClient(services["registry"]),
        serving=ServingClient(services["serving"]),
        expressions=_expressions(settings),
    )


def _expressions(settings: Settings) -> ChildExpressions:
    return ChildExpressions(memory=settings.expression_memory_bytes, seconds=settings.expression_seconds)
