"""Where the trainer is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
import contextlib
import os
import socket
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
from trainer import actions, admission, bundling
from trainer.actions import RUNNERS, SERVICE
from trainer.api import attempts, bundles, handover, jobs, leases, reports, secrets, sharing, sweeps
from trainer.api.state import Parts
from trainer.clients.ingest import IngestClient
from trainer.clients.registry import RegistryClient
from trainer.clients.trainer import TrainerClient
from trainer.domain.clusters import HOST, Site
from trainer.domain.jobs import Phase
from trainer.domain.leased import TOKEN_PREFIX
from trainer.domain.secrets import Vault
from trainer.domain.shapes import Shape
from trainer.kubernetes import attending as cluster_attending
from trainer.kubernetes import home as cluster_home
from trainer.kubernetes import runner as cluster_runner
from trainer.kubernetes.cluster import connected
from trainer.kubernetes.lock import Lock
from trainer.kubernetes.view import View
from trainer.reconcile import TTL, Reconciler, show_queue, wake_waiting
from trainer.runner.attending import Attending, Rules
from trainer.runner.bundles import Wardens
from trainer.runner.host import Home, Record
from trainer.runner.runner import Runner
from trainer.secrecy import Secrecy
from trainer.settings import Settings
from trainer.store.sweeps import SWEEPS
from trainer.store.tables import attempts as attempts_table
from trainer.store.tables import jobs as jobs_table
from trainer.store.tables import sweeps as sweeps_table
from trainer.sweeping.reconcile import TTL as SWEEP_TTL
from trainer.sweeping.reconcile import Sweeping

FOLLOWERS = ("gateway", "ingest", "pipelines", "registry", "serving")
"""Who may read the feed of events."""
HOURLY, OFTEN, EACH_MINUTE = 3600.0, 600.0, 60.0
EVENTS_KEPT = timedelta(days=7)
BUNDLES_KEPT = timedelta(days=30)
SWEEPERS = 2
"""Sweeps that a replica looks at in one moment: each look rebuilds a study."""
GRACE = timedelta(seconds=1)
"""Of a reader of a runner's metrics."""


def create_app(settings: Settings) -> Service:
    """The API. It opens its connections when it starts, and needs none of them to start."""
    key_file = settings.secrets_key_file
    vault = None if key_file is None else Vault.read(key_file.read_text())

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        neighbours = contextlib.AsyncExitStack()
        parts = Parts(
            ingest=IngestClient((await _neighbours(settings, neighbours))["ingest"]),
            blobs=BlobStore(settings.objects_url, SERVICE),
            output_bytes=settings.output_bytes,
            heartbeat_ttl=timedelta(seconds=settings.heartbeat_ttl_seconds),
            live=Live(SERVICE, None if settings.redis_url is None else settings.redis_url.get_secret_value()),
            secrecy=Secrecy(vault),
            operators=settings.operators,
            draining=lambda: service.draining,
        )

        async def listen(stop: asyncio.Event) -> None:
            await reconcile.listen(settings.url, RUNNERS, wakeup=parts.queued, stop=stop)

        try:
            async with background(listen, parts.live.run):
                yield {"engine": engine, "parts": parts}
        finally:
            await neighbours.aclose()
            await engine.dispose()

    api = make_api(SERVICE, lifespan)
    ours = (jobs, bundles, sweeps, sharing, secrets, reports, attempts, handover, leases)
    for router in (*(module.router for module in ours), audit.router()):
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
        ingest, registry = IngestClient(neighbours["ingest"]), RegistryClient(neighbours["registry"])
        worker = Reconciler(engine, store, ingest, registry)
        work = reconcile.controller(
            engine, jobs_table, worker.reconcile, ttl=TTL, workers=settings.workers, wakeup=wakeup, stop=stop
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            group.create_task(_sweep(settings, Sweeping(engine, store, registry), engine, stop))
            group.create_task(reconcile.listen(settings.url, SERVICE, wakeup=wakeup, stop=stop))
            group.create_task(events.follow(engine, "ingest", ingest.events, wake_waiting, stop=stop))
            group.create_task(_upkeep(settings, engine, store, stop))
            group.create_task(backlog.watch(engine, counted=attempts_table, stop=stop))
            group.create_task(reconcile.every(backlog.RARELY, lambda: show_queue(engine), stop=stop))


async def _sweep(settings: Settings, sweeping: Sweeping, engine: AsyncEngine, stop: asyncio.Event) -> None:
    wakeup, act = asyncio.Event(), sweeping.reconcile
    async with asyncio.TaskGroup() as group:
        group.create_task(reconcile.listen(settings.url, SWEEPS, wakeup=wakeup, stop=stop))
        group.create_task(
            reconcile.controller(engine, sweeps_table, act, ttl=SWEEP_TTL, workers=SWEEPERS, wakeup=wakeup, stop=stop)
        )


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
        bundles=Wardens(settings.runner_python, settings.runner_sandbox == "bwrap", settings.runner_disk_bytes),
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
            await Runner(home, trainer, attend, slots=slots, gpus=settings.runner_gpus).run(stop)


def run_kubernetes(settings: Settings, argv: Sequence[str]) -> int:
    """The command `kubernetes`: a runner of a cluster, until it is told to end."""

    async def run() -> None:
        await run_cluster_until(settings, stop_on_signals())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(run())
    return 0


async def run_cluster_until(settings: Settings, stop: asyncio.Event) -> None:
    """A runner of the cluster that this process is in, or that KUBECONFIG names, until `stop` is set."""
    site = site_of(settings)
    usual = Shape(memory=settings.runner_memory_bytes)
    rules = cluster_attending.Rules(beat=timedelta(seconds=settings.runner_beat_seconds), usual=usual)
    async with contextlib.AsyncExitStack() as stack:
        trainer = TrainerClient((await _neighbours(settings, stack))["trainer"], site.host)
        cluster = await stack.enter_async_context(connected(site.namespace))
        home, view = cluster_home.Home(cluster, site), View(cluster, {HOST: site.host})

        def attend(record: cluster_home.Record) -> cluster_attending.Attending:
            return cluster_attending.Attending(home, cluster, view, trainer, site, rules, record)

        lock = Lock(cluster, f"trainer-{site.host}".lower(), f"{socket.gethostname()}-{os.getpid()}")
        slots = settings.kubernetes_slots
        async with asyncio.TaskGroup() as group:
            if settings.runner_port is not None:
                group.create_task(_show(settings, settings.runner_port, stop))
            await cluster_runner.Runner(home, cluster, view, trainer, site, lock, attend, slots=slots).run(stop)


def site_of(settings: Settings) -> Site:
    """What the operator says of the cluster."""
    return Site(
        namespace=settings.kubernetes_namespace,
        host=settings.kubernetes_host,
        image=settings.kubernetes_image,
        trainer_url=settings.kubernetes_trainer_url or settings.trainer_url,
        gpu_image=settings.kubernetes_gpu_image,
        pull_secrets=settings.kubernetes_pull_secrets,
        work_size=settings.kubernetes_work_size,
        grace_seconds=settings.kubernetes_grace_seconds,
        node_selector=settings.kubernetes_node_selector,
        gpu_node_selector=settings.kubernetes_gpu_node_selector,
        tolerations=settings.kubernetes_tolerations,
        runtime_class=settings.kubernetes_runtime_class,
        priority_class=settings.kubernetes_priority_class,
        queue=settings.kubernetes_queue,
        checkpoints_claim=settings.kubernetes_checkpoints_claim,
    )


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
        every(EACH_MINUTE, lambda: admission.look_after(engine))
        every(HOURLY, lambda: actions.retire_jobs(engine, {Phase.FAILED, Phase.CANCELLED}, retired))
        every(HOURLY, lambda: actions.retire_jobs(engine, {Phase.SUCCEEDED}, succeeded))
        every(HOURLY, lambda: bundling.retire(engine, BUNDLES_KEPT))
        every(HOURLY, lambda: actions.retire_sweeps(engine, succeeded))
        every(HOURLY, lambda: events.prune(engine, EVENTS_KEPT))
