"""A gateway that is asked to end cuts nothing off, and follows nothing any more."""

import asyncio

from starlette.types import Receive, Scope, Send

from gateway.app import create_app
from gateway.settings import Settings
from kit.testing import eventually

from .gateways import Door, Upstream, answer, client, serving, wire


async def test_a_stream_that_is_followed_ends_with_the_gateway_and_between_two_events(
    settings: Settings, blue: dict[str, str], upstream: Upstream
) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while piece := await pieces.get():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    upstream.replies["/v1/jobs/1/logs"] = reply
    app = create_app(settings)
    async with serving(app) as port, wire(port) as raw:
        await raw.send(Door(port, blue, upstream, settings).head("GET /v1/jobs/1/logs"))
        assert (await raw.head())[0] == 200
        pieces.put_nowait(b"data: 1\n")
        assert await raw.chunk() == b"data: 1\n"
        app.draining = True
        pieces.put_nowait(b"data: 2\n\n")
        assert await raw.chunk() == b"data: 2\n\n"
        assert await raw.chunk() == b""
        pieces.put_nowait(b"")


async def test_a_silent_stream_ends_too(settings: Settings, blue: dict[str, str], upstream: Upstream) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while (await receive())["type"] != "http.disconnect":
            pass
        upstream.gone.set()

    upstream.replies["/v1/jobs/1/logs"] = reply
    app = create_app(settings)
    async with serving(app) as port, wire(port) as raw:
        await raw.send(Door(port, blue, upstream, settings).head("GET /v1/jobs/1/logs"))
        assert (await raw.head())[0] == 200
        app.draining = True
        assert await raw.chunk() == b""
        await asyncio.wait_for(upstream.gone.wait(), 5)


async def test_a_long_poll_is_answered_with_how_things_are_when_the_gateway_ends(
    settings: Settings, blue: dict[str, str], upstream: Upstream
) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] != b"a=1&wait=0s":
            while (await receive())["type"] != "http.disconnect":
                pass
            upstream.gone.set()
        else:
            await answer(send, b'{"phase":"running"}')

    upstream.replies["/v1/runs/1"] = reply
    app = create_app(settings)
    async with serving(app) as port, client(port, blue["admin"]) as http:
        waiting = asyncio.create_task(http.get("/v1/runs/1?a=1&wait=60s"))
        await eventually(lambda: upstream.asked("/v1/runs/1"))
        app.draining = True
        answered = await asyncio.wait_for(waiting, 5)
        assert (answered.status_code, answered.json()) == (200, {"phase": "running"})
        await asyncio.wait_for(upstream.gone.wait(), 5)
        assert (await http.get("/v1/runs/1?a=1&wait=60s")).status_code == 200  # and one that comes now
        assert (await http.get("/v1/runs/2?wait=1s")).status_code == 200
