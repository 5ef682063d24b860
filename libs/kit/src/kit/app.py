"""How every service is put together: telemetry > guard > raw routes | strict bodies > FastAPI."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from kit import problems
from kit.at_once import AtOnce
from kit.bodies import StrictBodies, answer
from kit.callers import PUBLIC
from kit.guard import Authenticator, Guard, no_links
from kit.refusals import Known, nobody
from kit.routes import RawRoute, RouteTable
from kit.telemetry import Telemetry
from kit.tokens import Verifier

log = logging.getLogger(__name__)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]
JSON = {"content-type": "application/json"}


def make_api(name: str, lifespan: Lifespan) -> FastAPI:
    """A FastAPI of the suite: problems for errors, no page that loads from elsewhere, no redirects of paths."""
    api = FastAPI(
        title=name, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    problems.install(api)
    return api


class Service:
    """One service as an ASGI application. `draining` is set by kit.server when it is asked to end."""

    def __init__(
        self,
        api: FastAPI,
        *,
        raw: Sequence[RawRoute] = (),
        ready: Callable[[Mapping[str, Any]], Mapping[str, object] | None] = lambda state: None,
        authenticators: Mapping[str, Authenticator],
        by_link: Authenticator = no_links,
        known: Known = nobody,
        metrics: bool = True,
    ) -> None:
        """`ready(state)` says what the main work still lacks, or None: then the process is ready (rule 10).

        `known` tells whose token it is, if it was seen before: for what is answered in a hurry.
        """
        self.api = api
        self.draining = False
        self._ready = ready
        self._raw = [*self._own_routes(metrics=metrics), *raw]
        self.routes = RouteTable(api, self._raw)
        self.at_once = AtOnce(self.routes, known)
        guarded = Guard(_Dispatcher(StrictBodies(api), api), self.routes, authenticators, by_link)
        self._stack: ASGIApp = Telemetry(guarded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # For what would hold an answer back, or stream for ever (kit.waiting, kit.sse).
        scope.setdefault("state", {})["is_ending"] = self._is_ending
        await self._stack(scope, receive, send)

    def _is_ending(self) -> bool:
        return self.draining

    def is_prompt(self, scope: Scope) -> bool:
        """Whether this request will most likely be answered without waiting (kit.edge asks)."""
        match = self.routes.find(scope["method"], scope["path"])
        return match is not None and match.is_prompt

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with what the raw routes say of themselves."""
        document = dict(self.api.openapi())
        paths = dict(document.get("paths", {}))
        for route in self._raw:
            if route.openapi:
                path = route.path.replace(":path}", "}")
                paths[path] = {**paths.get(path, {}), **route.openapi}
        return {**document, "paths": paths}

    def _own_routes(self, *, metrics: bool) -> list[RawRoute]:
        get = frozenset({"GET"})
        own = {"/livez": self._livez, "/readyz": self._readyz, "/openapi.json": self._openapi}
        if metrics:
            own["/metrics"] = self._metrics
        return [RawRoute(get, path, endpoint, PUBLIC) for path, endpoint in own.items()]

    async def _livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, b'{"live":true}', JSON)

    async def _readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        lacking = {"draining": True} if self.draining else self._ready(scope["state"])
        body = orjson.dumps({"ready": lacking is None, **(lacking or {})})
        await answer(send, 200 if lacking is None else 503, body, JSON)

    async def _openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, orjson.dumps(self.openapi()), JSON)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, generate_latest(), {"content-type": CONTENT_TYPE_LATEST})


class _Dispatcher:
    """Sends a request to the raw route that the guard found for it, and everything else to FastAPI."""

    def __init__(self, strict: ASGIApp, api: ASGIApp) -> None:
        self._strict = strict
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._api(scope, receive, send)
            return
        match = scope["state"]["match"]
        if match is not None and match.endpoint is not None:
            scope["path_params"] = dict(match.params)
            await match.endpoint(scope, receive, send)
        else:
            await self._strict(scope, receive, send)


def assemble(
    api: FastAPI,
    *,
    verifier: Verifier,
    raw: Sequence[RawRoute] = (),
    ready: Callable[[Mapping[str, Any]], Mapping[str, object] | None] = lambda state: None,
    authenticators: Mapping[str, Authenticator] | None = None,
    by_link: Authenticator = no_links,
) -> Service:
    """A service behind the gateway: its callers bring internal tokens, or what `authenticators` know by prefix."""

    async def internal(scope: Scope, token: str) -> Any:
        return verifier.verify(token)

    return Service(
        api,
        raw=raw,
        ready=ready,
        authenticators={"": internal, **(authenticators or {})},
        by_link=by_link,
        known=verifier.known,
    )


def health() -> Service:
    """What a process without an API of its own shows: that it lives, and its metrics."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {}

    return Service(make_api("health", lifespan), authenticators={})


@asynccontextmanager
async def background(*loops: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Run loops beside the requests of an API process: for a lifespan. One that fails ends the process as failed."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_watched(loop(stop))) for loop in loops]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _watched(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        # A process that serves without what its loops keep current must not seem well: it is started anew.
        log.exception("a loop of this process failed")
        os.kill(os.getpid(), signal.SIGTERM)
        raise
