"""Puts the gateway together: the front, the proxy's raw routes, Swagger UI, and its own routes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from prometheus_client import Gauge
from starlette.types import Receive, Scope, Send

from gateway import reconcile
from gateway.actions import SERVICE, KeyRing
from gateway.api import docs, keys, projects, proxy, suite
from gateway.api.admission import Admission, Front
from gateway.api.document import ApiDocument
from gateway.api.exchange import Watch
from gateway.api.proxy import Proxy
from gateway.api.state import Parts, Rules
from gateway.clients.discovery import Discovery, Resolve, addresses_of
from gateway.clients.http import clients
from gateway.clients.services import Services
from gateway.clients.shared_limits import SharedLimits
from gateway.clients.upstreams import Upstreams
from gateway.domain.access import Trust
from gateway.domain.limits import Buckets, Places, Rate
from gateway.domain.requests import ROUTES
from gateway.settings import Settings
from gateway.store.snapshots import SnapshotFile
from kit.app import Service, background, health, make_api
from kit.db import make_engine
from kit.links import load_verifier
from kit.reconcile import listen
from kit.redis_client import connect
from kit.server import Unfinished, serve
from kit.tokens import Signer, load_signer

Loop = Callable[[asyncio.Event], Awaitable[None]]
KEYS_AGE = Gauge("trainyard_gateway_keys_age_seconds", "Since the keys were last known to be all there are.")
GRACE = timedelta(seconds=1)
"""Of a reader of metrics."""


class Gateway(Service):
    """The only service that the outside reaches: its callers bring API keys, and internal tokens are none of them."""

    def __init__(self, api: FastAPI, admission: Admission, signer: Signer) -> None:
        super().__init__(
            api,
            raw=[*docs.routes(), *proxy.routes(Proxy(signer), ROUTES)],
            ready=_lacking,
            authenticators={"": admission.authenticate},
            by_link=admission.authenticate_link,
            metrics=False,
        )
        self._stack = Front(self._stack, admission)

    async def _openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts: Parts = scope["state"]["parts"]
        await parts.document.answer(send)


def create_app(settings: Settings, resolve: Resolve = addresses_of) -> Service:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        trust = Trust(settings.fresh, settings.offline)
        ring = KeyRing(engine, trust, _file(settings))
        ring.remember()
        KEYS_AGE.set_function(lambda: ring.age.total_seconds())
        async with clients(answer_within=timedelta(seconds=settings.answer_seconds)) as both:
            upstreams = Upstreams(settings.urls(), both)
            discovery = Discovery(upstreams.pools, both.session, resolve)
            await discovery.begin()
            services = Services(upstreams, signer)
            document = ApiDocument(services, api.openapi())
            watch = Watch(asyncio.get_running_loop())
            parts = Parts(ring, upstreams, services, document, _rules(settings), watch)
            async with background(
                _keeping_keys(settings, ring),
                _keeping_endpoints(settings, discovery),
                _keeping_document(settings, document),
                _showing_metrics(settings),
                *sharing,
            ):
                yield {"engine": engine, "parts": parts}
        await engine.dispose()

    signer = load_signer(settings.private_key_file)
    api = make_api(SERVICE, lifespan)
    for router in (keys.router, projects.router, suite.router):
        api.include_router(router)
    links = load_verifier(settings.public_keys_file)
    rate = Rate(settings.requests_per_second, settings.requests_at_once)
    buckets = Buckets(rate, shared=settings.redis_url is not None)
    sharing: list[Loop] = []
    tell: Callable[[], None] = _nobody
    if settings.redis_url is not None:
        limits = SharedLimits(buckets, connect(settings.redis_url.get_secret_value()))
        sharing, tell = [limits.keep_current], limits.news.set
    places = Places(settings.in_flight_per_key, settings.in_flight)
    admission = Admission(buckets, places, links, tell)
    return Gateway(api, admission, signer)


def _nobody() -> None:
    """There is no other gateway that hears of it."""


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """What goes on beside requests."""
    engine = make_engine(settings.url, connections=3)
    try:
        await reconcile.forget(engine, stop=stop)
    finally:
        await engine.dispose()


def _lacking(state: Mapping[str, Any]) -> Mapping[str, object] | None:
    parts: Parts = state["parts"]
    return None if parts.ring.known else {"keys": "never seen"}


def _file(settings: Settings) -> SnapshotFile | None:
    return None if settings.work_dir is None else SnapshotFile(settings.work_dir / "keys.json")


def _rules(settings: Settings) -> Rules:
    return Rules(
        usually=timedelta(days=settings.key_days),
        longest=timedelta(days=settings.longest_key_days),
        most=settings.keys_per_project,
    )


def _keeping_keys(settings: Settings, ring: KeyRing) -> Loop:
    async def loop(stop: asyncio.Event) -> None:
        wakeup = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen(settings.url, SERVICE, wakeup=wakeup, stop=stop))
            await ring.keep_current(every=settings.refresh_seconds, wakeup=wakeup, stop=stop)
            listening.cancel()  # it looks up once a second only

    return loop


def _keeping_endpoints(settings: Settings, discovery: Discovery) -> Loop:
    async def loop(stop: asyncio.Event) -> None:
        await discovery.keep_current(
            resolve_every=settings.resolve_seconds, ask_every=settings.ready_seconds, stop=stop
        )

    return loop


def _keeping_document(settings: Settings, document: ApiDocument) -> Loop:
    async def loop(stop: asyncio.Event) -> None:
        await document.keep_current(every=settings.document_seconds, stop=stop)

    return loop


def _showing_metrics(settings: Settings) -> Loop:
    async def loop(stop: asyncio.Event) -> None:
        if settings.metrics_port is not None:
            # No drain of its own: it is told to end when the last request has been answered.
            nothing = timedelta(0)
            with suppress(Unfinished):
                await serve(
                    health(), host=settings.host, port=settings.metrics_port, drain=nothing, grace=GRACE, stop=stop
                )

    return loop
