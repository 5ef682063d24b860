"""Where the trainer is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import uvloop
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import audit, backlog, blobs, events, idempotency, reconcile
from kit.app import Service, assemble, background, health, make_api
from kit.blobs import BlobStore
from kit.clients import ServiceClient, http_client
from kit.db import make_engine
from kit.live import Live
from kit.server import serve, stop_on_signals
from kit.tokens import load_signer, load_verifier
from trainer import actions
from trainer.actions import RUNNERS, SERVICE
from trainer.api import attempts, jobs, leases, reports
from trainer.api.state import Parts
from trainer.clients.ingest import IngestClient
from trainer.clients.registry import RegistryClient
from trainer.clients.trainer import TrainerClient
from trainer.domain.jobs import Phase
from trainer.domain.leased import TOKEN_PREFIX
from trainer.reconcile import TTL, Reconciler, show_queue, wake_waiting
from trainer.runner.attending import Attending, Rules
from trainer.runner.host import Home, Record
from trainer.runner.runner import Runner
from trainer.settings import Settings
from trainer.store.tables import attempts as attempts_table
from trainer.store.tables import jobs as jobs_table

FOLLOWERS = ("gateway", "ingest", "pipelines", "registry", "serving")
"""Who may read the feed of events."""
HOURLY, OFTEN = 3600.0, 600.0
EVENTS_KEPT = timedelta(days=7)
GRACE = timedelta(seconds=1)
"""Of a reader of a runner's metrics."""


def create_app(settings: Settings) -> Service:
    """The API. It opens its connections when it starts, and needs none of them to start."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        parts = Parts(
            blobs=BlobStore(settings.objects_url, SERVICE),
            output_bytes=settings.output_bytes,
            heartbeat_ttl=timedelta(seconds=settings.heartbeat_ttl_seconds),
            live=Live(SERVICE, None if settings.redis_url is None else settings.redis_url.get_secret_value()),
            draining=lambda: service.draining,
        )

        async def listen(stop: asyncio.Event) -> None:
            await reconcile.listen(settings.url, RUNNERS, wakeup=parts.queued, stop=stop)

        try:
            async with background(listen, parts.live.run):
                yield {"engine": engine, "parts": parts}
        finally:
            await engine.dispose()

    api = make_api(SERVICE, lifespan)
    for router in (jobs.router, reports.router, attempts.router, leases.router, audit.router()):
        api.include_router(router)
    api.include_router(events.router(issuers=FOLLOWERS))
    verifier = load_verifier(settings.public_keys_file, SERVICE)
    service = assemble(api, verifier=verifier, authenticators={TOKEN_PREFIX: attempts.authenticate})
    return service


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """Bring jobs to their end, and put away what nobody needs any more, until `stop` is set."""
    engine = make_engine(settings.url, connections=4)
    store = BlobStore(settings.objects_url, SERVICE)
    wakeup = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        neighbours = await _neighbours(settings, stack)
        ingest = IngestClient(neighbours["ingest"])
        worker = Reconciler(engine, store, ingest, RegistryClient(neighbours["registry"]))
        work = reconcile.controller(
            engine, jobs_table, worker.reconcile, ttl=TTL, workers=settings.workers, wakeup=wakeup, stop=stop
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            group.create_task(reconcile.listen(settings.url, SERVICE, wakeup=wakeup, stop=stop))
            group.create_task(events.follow(engine, "ingest", ingest.events, wake_waiting, stop=stop))
            group.create_task(_upkeep(settings, engine, store, stop))
            group.create_task(backlog.watch(engine, counted=attempts_table, stop=stop))
            group.create_task(reconcile.every(backlog.RARELY, lambda: show_queue(engine), stop=stop))


def run_runner(settings: Settings, argv: Sequence[str]) -> int:
    """The command `runner`: until it is told to end."""

    async def run() -> None:
        await run_until(settings, stop_on_signals())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(run())
    return 0


async def run_until(settings: Settings, stop: asyncio.Event) -> None:
    """A runner, until `stop` is set."""
    home = Home(settings.work_dir / "runner")
    rules = Rules(
        memory=settings.runner_memory_bytes,
        beat=timedelta(seconds=settings.runner_beat_seconds),
        grace=timedelta(seconds=settings.runner_stop_seconds),
        trainer_url=settings.trainer_url,
    )
    async with contextlib.AsyncExitStack() as stack:
        neighbours = await _neighbours(settings, stack)
        ingest, trainer = IngestClient(neighbours["ingest"]), TrainerClient(neighbours["trainer"], home.host)

        def attend(record: Record) -> Attending:
            return Attending(home, trainer, ingest, rules, record)

        slots = settings.runner_slots or os.cpu_count() or 1
        async with asyncio.TaskGroup() as group:
            if settings.runner_port is not None:
                group.create_task(_show(settings, settings.runner_port, stop))
            await Runner(home, trainer, attend, slots=slots).run(stop)


async def _show(settings: Settings, port: int, stop: asyncio.Event) -> None:
    await serve(health(), host=settings.host, port=port, drain=timedelta(0), grace=GRACE, stop=stop)


async def _neighbours(settings: Settings, stack: contextlib.AsyncExitStack) -> dict[str, ServiceClient]:
    signer = load_signer(settings.private_key_file)
    urls = {"ingest": settings.ingest_url, "registry": settings.registry_url, SERVICE: settings.trainer_url}
    return {
        name: ServiceClient(await stack.enter_async_context(http_client(url)), signer, name)
        for name, url in urls.items()
    }


async def _upkeep(settings: Settings, engine: AsyncEngine, store: BlobStore, stop: asyncio.Event) -> None:
    """What every replica does from time to time. Each can be done twice, and by two at once."""
    retired, succeeded = timedelta(days=settings.retired_days), timedelta(days=settings.succeeded_days)
    async with asyncio.TaskGroup() as group:

        def every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
            group.create_task(reconcile.every(seconds, act, stop=stop))

        every(settings.collect_seconds, lambda: blobs.collect(engine, store))
        every(OFTEN, lambda: idempotency.purge(engine))
        every(HOURLY, lambda: actions.retire_jobs(engine, {Phase.FAILED, Phase.CANCELLED}, retired))
        every(HOURLY, lambda: actions.retire_jobs(engine, {Phase.SUCCEEDED}, succeeded))
        every(HOURLY, lambda: events.prune(engine, EVENTS_KEPT))
