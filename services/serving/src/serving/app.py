"""Where serving is put together. Nothing else in the package reads settings or builds a client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from kit import audit, events, idempotency
from kit.app import Service, assemble, background, make_api
from kit.clients import ServiceClient, http_client
from kit.db import make_engine
from kit.reconcile import controller, every, first, listen
from kit.tokens import load_signer, load_verifier
from serving import actions
from serving.api import deployments, inference, predict
from serving.api.state import Parts
from serving.clients.registry import Registry
from serving.reconcile import TTL, Reconciler, apply
from serving.replica.children import Limits, Runners
from serving.replica.files import Files
from serving.replica.replica import Replica
from serving.replica.residents import Loader
from serving.replica.table import Table
from serving.settings import Settings
from serving.store.deployments import DeploymentStore
from serving.store.replicas import ReplicaStore
from serving.store.tables import deployments as deployments_table

SERVICES = frozenset({"ingest", "trainer", "registry", "serving", "pipelines", "gateway"})
PURGE = 600.0
KEPT_EVENTS = timedelta(days=7)
KEPT_REPLICAS = timedelta(minutes=10)
KEPT_REVISIONS = 50
"""Of each deployment, beside those that a replica still serves."""
RESTORE = 10.0
"""Seconds that the first requests wait at most for what was served last."""
THREADS = 2
"""On which models are asked that take too long for the event loop."""


def create_app(settings: Settings) -> Service:
    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        async with http_client(settings.registry_url) as http:
            registry = Registry(ServiceClient(http, load_signer(settings.private_key_file), "registry"))
            table = Table()
            files = Files(settings.work_dir, registry, largest=settings.model_bytes)
            limits = Limits(settings.runner_memory_bytes, settings.runner_load, settings.runner_predict)
            runners = Runners(limits, waiting=settings.waiting_requests)
            loader = Loader(files, runners, waiting=settings.waiting_requests, threads=THREADS)
            replica = Replica(engine, table, files, loader, runners)
            wakeup = asyncio.Event()

            async def follow(stop: asyncio.Event) -> None:
                await replica.run(poll=settings.poll_seconds, wakeup=wakeup, stop=stop)

            async def hear(stop: asyncio.Event) -> None:
                await listen(settings.url, actions.REPLICAS, wakeup=wakeup, stop=stop)

            async with background(follow, hear):
                # Who connects meanwhile waits for a moment, instead of hearing that nothing is loaded.
                await first(replica.restored, seconds=RESTORE)
                yield {"engine": engine, "parts": Parts(registry, table, replica, settings.project_deployments)}
            loader.close()
            files.close()
        await engine.dispose()

    api = make_api("serving", lifespan)
    for router in (deployments.router, audit.router(), events.router(issuers=SERVICES)):
        api.include_router(router)
    verifier = load_verifier(settings.public_keys_file, "serving")
    raw = [*predict.routes(), *inference.routes()]
    return assemble(api, verifier=verifier, raw=raw, ready=lambda state: state["parts"].replica.lacking())


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """What goes on beside requests, until `stop` is set."""
    engine = make_engine(settings.url, connections=3)
    wakeup = asyncio.Event()
    async with http_client(settings.registry_url) as http:
        registry = Registry(ServiceClient(http, load_signer(settings.private_key_file), "registry"))
        reconcile = Reconciler(engine, registry).reconcile

        async def forget() -> None:
            await idempotency.purge(engine)
            await events.prune(engine, KEPT_EVENTS)
            async with engine.begin() as connection:
                await ReplicaStore(connection).prune(KEPT_REPLICAS)
                await DeploymentStore(connection).prune(KEPT_REVISIONS)

        async with asyncio.TaskGroup() as group:
            control = controller(
                engine, deployments_table, reconcile, ttl=TTL, workers=settings.workers, wakeup=wakeup, stop=stop
            )
            group.create_task(control)
            group.create_task(listen(settings.url, actions.SERVICE, wakeup=wakeup, stop=stop))
            group.create_task(events.follow(engine, "registry", registry.events, apply, stop=stop))
            group.create_task(every(PURGE, forget, stop=stop))
    await engine.dispose()
