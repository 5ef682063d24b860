"""What a FastAPI user writes as a proxy of one upstream (UPSTREAM=host:port): for benchmarks/gateway.py.

    uvicorn --factory benchmarks.gateway_peers:httpx_app        or :aiohttp_app

Where httpx is absent it is httpx2, its successor with the same interface.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import aiohttp
from fastapi import FastAPI, Request, Response

httpx: Any = import_module("httpx" if find_spec("httpx") else "httpx2")
UPSTREAM = f"http://{os.environ.get('UPSTREAM', '127.0.0.1:1')}"
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}
VERBS = ["GET", "POST", "PUT", "DELETE"]


def _kept(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP]


def httpx_app() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
        async with httpx.AsyncClient(base_url=UPSTREAM, limits=limits, timeout=30) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=VERBS)
    async def proxy(path: str, request: Request) -> Response:
        body, query, headers = await request.body(), request.query_params, _kept(request.headers)
        ask = app.state.client.request
        answer = await ask(request.method, f"/{path}", content=body, params=query, headers=headers)
        return Response(answer.content, answer.status_code, dict(_kept(answer.headers)))

    return app


def aiohttp_app() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector: Any = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(UPSTREAM, connector=connector, auto_decompress=False) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=VERBS)
    async def proxy(path: str, request: Request) -> Response:
        body, query, headers = await request.body(), request.query_params, _kept(request.headers)
        ask = app.state.client.request
        async with ask(request.method, f"/{path}", data=body, params=query, headers=headers) as answer:
            return Response(await answer.read(), answer.status, dict(_kept(answer.headers)))

    return app
