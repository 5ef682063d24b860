"""Where serving is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import audit, events, idempotency, leases
from kit.app import Service, assemble, background, make_api
from kit.attestations import Trust
from kit.clients import ServiceClient, http_client
from kit.db import make_engine
from kit.reconcile import controller, every, first, listen
from kit.reconcile import run as reconciling
from kit.tokens import Verifier, load_signer, load_verifier
from serving import actions
from serving.api import batches, deployments, inference, mlflow, predict, predictions, v1
from serving.api.later import LaterWorker, problem_of_lost
from serving.api.state import Parts
from serving.api.watching import Watch
from serving.batching import TTL as BATCH_TTL
from serving.batching import BatchReconciler
from serving.clients.ingest import Ingest
from serving.clients.registry import Registry
from serving.reconcile import TTL, Reconciler, apply
from serving.replica.batches import PartWorker
from serving.replica.borrowed import Borrowed
from serving.replica.children import ChildLimits
from serving.replica.files import Files
from serving.replica.lanes import Queueing
from serving.replica.replica import Replica
from serving.replica.request_log import FOLDER, Bounds, RequestFiles, RequestLog
from serving.replica.residents import Loader
from serving.replica.runners import Runners
from serving.replica.table import Table
from serving.replica.watched import WATCHED
from serving.settings import Settings
from serving.store.batches import BatchStore
from serving.store.deployments import DeploymentStore
from serving.store.predictions import PredictionStore
from serving.store.replicas import ReplicaStore
from serving.store.tables import batches as batches_table
from serving.store.tables import deployments as deployments_table

SERVICES = frozenset({"ingest", "trainer", "registry", "serving", "pipelines", "gateway"})
PURGE = 600.0
KEPT_EVENTS = timedelta(days=7)
KEPT_REPLICAS = timedelta(minutes=10)
KEPT_REVISIONS = 50
"""Of each deployment, beside those that a replica still serves."""
RESTORE = 10.0
"""Seconds that the first requests wait at most for what was served last."""
LATER = 1.0
"""Seconds between two looks for requests that are answered later; a notification comes sooner."""
PARTS = 2.0
"""Seconds between two looks for parts of batches; a notification comes sooner."""
SWITCH = 0.0005
"""Seconds after which a busy loop lets a thread go on that has computed: by default it would wait ten times as long."""
THREADS = 2
"""On which models are asked that take too long for the event loop, where there are so many cores."""


def create_app(settings: Settings) -> Service:
    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        sys.setswitchinterval(SWITCH)
        engine = make_engine(settings.url)
        async with http_client(settings.registry_url) as http, http_client(settings.ingest_url) as ingest_http:
            signer = load_signer(settings.private_key_file)
            registry = Registry(ServiceClient(http, signer, "registry"))
            ingest = Ingest(ServiceClient(ingest_http, signer, "ingest"))
            table = Table()
            files = Files(settings.work_dir, registry, largest=settings.model_bytes)
            limits = ChildLimits(
                settings.runner_memory_bytes, settings.runner_load, settings.runner_predict, files.folder
            )
            queueing = Queueing(settings.waiting_requests, settings.queue_seconds)
            runners = Runners(limits, queueing=queueing)
            trust = partial(Trust.load, settings.trust_file, settings.public_keys_file)
            loader = Loader(files, runners, queueing=queueing, threads=threads(), trust=trust)
            replica = Replica(
                engine,
                table,
                files,
                loader,
                runners,
                budget=settings.resident_bytes,
                reload=settings.reload_seconds,
            )
            request_log = request_log_of(settings)
            watch = Watch(request_log, slow=settings.slow_request_seconds)
            parts = Parts(registry, table, replica, **rooms(settings), watch=watch)
            wakeup = asyncio.Event()

            async def follow(stop: asyncio.Event) -> None:
                await replica.run(poll=settings.poll_seconds, wakeup=wakeup, stop=stop)

            async def hear(stop: asyncio.Event) -> None:
                await listen(settings.url, actions.REPLICAS, wakeup=wakeup, stop=stop)

            work = partial(_work_on_parts, settings, engine, Borrowed(table, loader), ingest)
            later = partial(_answer_later, settings, engine, parts)
            logs = [] if request_log is None else [request_log.run]
            async with background(follow, hear, work, later, *logs):
                # Who connects meanwhile waits for a moment, instead of hearing that nothing is loaded.
                await first(replica.restored, seconds=RESTORE)
                state = {"engine": engine, "parts": parts}
                async with _grpc(settings, verifier, lambda: service, state):
                    with WATCHED.watching(table, triton=settings.triton_metrics):
                        yield state
            loader.close()
            files.close()
        await engine.dispose()

    api = make_api("serving", lifespan)
    own = (deployments.router, batches.router, predictions.router)
    for router in (*own, audit.router(), events.router(issuers=SERVICES)):
        api.include_router(router)
    verifier = load_verifier(settings.public_keys_file, "serving")
    raw = [*predict.routes(), *mlflow.routes(), *v1.routes(), *inference.routes()]
    service = assemble(api, verifier=verifier, raw=raw, ready=lambda state: state["parts"].replica.lacking())
    return service


@contextlib.asynccontextmanager
async def _grpc(
    settings: Settings, verifier: Verifier, app: Callable[[], Service], state: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Beside HTTP, gRPC, where it is asked for. Nothing of it is imported elsewhere: it is an extra."""
    if settings.grpc_port is None:
        yield
        return
    served = import_module("serving.grpc.server").served
    async with served(app(), state, verifier, host=settings.host, port=settings.grpc_port):
        yield


def request_log_of(settings: Settings) -> RequestLog | None:
    """Where some requests are kept, if any are."""
    if not settings.request_log_share:
        return None
    kept = timedelta(days=settings.request_log_days)
    files = RequestFiles(settings.work_dir / FOLDER, largest=settings.request_log_bytes, kept=kept)
    of = settings.request_log_share, settings.request_log_row_bytes
    return RequestLog(files, Bounds(*of, settings.request_log_buffer_bytes, settings.request_log_seconds))


def threads() -> int:
    """No more than cores: two models on one would each take twice as long, and their fairness is only ours in turns."""
    return min(THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def rooms(settings: Settings) -> dict[str, int]:
    """How much a project may have, by what."""
    return {
        "deployments": settings.project_deployments,
        "batches": settings.project_batches,
        "predictions": settings.waiting_predictions,
        "prediction_bytes": settings.waiting_prediction_bytes,
    }


async def _work_on_parts(
    settings: Settings, engine: AsyncEngine, models: Borrowed, ingest: Ingest, stop: asyncio.Event
) -> None:
    """Beside requests, parts of batches: whichever process has the time takes one."""
    if not settings.batch_workers:
        return
    worker = PartWorker(engine, models, ingest, settings.work_dir, largest=settings.batch_part_bytes, stop=stop)
    await asyncio.to_thread(worker.prepare)
    wakeup = asyncio.Event()

    async def claim(limit: int) -> Sequence[leases.Lease]:
        found = await worker.claim(limit)
        if not found and limit == settings.batch_workers:
            await models.close()  # nobody uses them just now
        return found

    async with asyncio.TaskGroup() as group:
        group.create_task(listen(settings.url, actions.PARTS, wakeup=wakeup, stop=stop))
        await reconciling(claim, worker.work, workers=settings.batch_workers, poll=PARTS, wakeup=wakeup, stop=stop)


async def _answer_later(settings: Settings, engine: AsyncEngine, parts: Parts, stop: asyncio.Event) -> None:
    """Beside requests, those that nobody waits for."""
    worker, wakeup = LaterWorker(engine, parts, stop), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(listen(settings.url, actions.PREDICTIONS, wakeup=wakeup, stop=stop))
        workers = settings.prediction_workers
        await reconciling(worker.claim, worker.work, workers=workers, poll=LATER, wakeup=wakeup, stop=stop)


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """What goes on beside requests, until `stop` is set."""
    engine = make_engine(settings.url, connections=4)
    async with http_client(settings.registry_url) as http, http_client(settings.ingest_url) as ingest_http:
        signer = load_signer(settings.private_key_file)
        registry = Registry(ServiceClient(http, signer, "registry"))
        ingest = Ingest(ServiceClient(ingest_http, signer, "ingest"))
        reconcile = Reconciler(engine, registry).reconcile
        reconcile_batch = BatchReconciler(engine, ingest, registry).reconcile

        async def forget() -> None:
            await idempotency.purge(engine)
            await events.prune(engine, KEPT_EVENTS)
            async with engine.begin() as connection:
                await ReplicaStore(connection).prune(KEPT_REPLICAS)
                await DeploymentStore(connection).prune(KEPT_REVISIONS)
                await BatchStore(connection).retire(timedelta(days=settings.batch_days))
                kept = timedelta(hours=settings.prediction_hours)
                await PredictionStore(connection).purge(kept, problem_of_lost(kept))

        async with asyncio.TaskGroup() as group:
            for table, look, ttl in ((deployments_table, reconcile, TTL), (batches_table, reconcile_batch, BATCH_TTL)):
                wakeup = asyncio.Event()
                control = controller(engine, table, look, ttl=ttl, workers=settings.workers, wakeup=wakeup, stop=stop)
                group.create_task(control)
                group.create_task(listen(settings.url, actions.SERVICE, wakeup=wakeup, stop=stop))
            group.create_task(events.follow(engine, "registry", registry.events, apply, stop=stop))
            group.create_task(every(PURGE, forget, stop=stop))
    await engine.dispose()
