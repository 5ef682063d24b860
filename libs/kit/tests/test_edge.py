"""The edge as clients meet it: raw sockets against a real server, with deadlines made short."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import uvicorn
from uvicorn.server import ServerState

from kit import edge
from kit.edge_rules import Limits
from kit.testing import eventually

from .edge_clients import MUCH, PROMPT, Application, Server, serving

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as it:
        yield it


async def passing(seconds: float) -> None:
    until = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() >= until)


async def test_a_request_is_answered_and_the_connection_kept(server: Server) -> None:
    client = await server.connect()
    for _ in range(2):
        await client.send(HEAD, b"\r\n")
        assert await client.answer() == (200, {"content-length": "1"}, b"0")


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        pytest.param(400, "malformed-request", b"GET / HTTP/1.1\r\n\r\n", id="without a host"),
        pytest.param(400, "malformed-request", HEAD + b"Host: b\r\n\r\n", id="with two hosts"),
        pytest.param(400, "malformed-request", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", id="with a strange host"),
        pytest.param(400, "malformed-request", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", id="with an empty host"),
        pytest.param(400, "malformed-request", b"GET /\r\n\r\n", id="of HTTP/0.9"),
        pytest.param(400, "malformed-request", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", id="of another version"),
        pytest.param(400, "malformed-request", b"not http at all\r\n\r\n", id="of no protocol"),
        pytest.param(400, "malformed-request", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", id="for a tunnel"),
        pytest.param(400, "malformed-request", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", id="for the server itself"),
        pytest.param(400, "malformed-request", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", id="for another server"),
        pytest.param(400, "malformed-request", b"GET /v1/../own HTTP/1.1\r\nHost: a\r\n\r\n", id="with a dot segment"),
        pytest.param(
            400, "malformed-request", b"GET /v1/%2e%2E/own HTTP/1.1\r\nHost: a\r\n\r\n", id="with a coded one"
        ),
        pytest.param(
            400, "malformed-request", b"GET /v1/..%2fown HTTP/1.1\r\nHost: a\r\n\r\n", id="with a coded slash"
        ),
        pytest.param(400, "malformed-request", b"GET /a/. HTTP/1.1\r\nHost: a\r\n\r\n", id="with a single dot"),
        pytest.param(400, "malformed-request", b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", id="with a NUL"),
        pytest.param(400, "malformed-request", b"GET /%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", id="with a line end"),
        pytest.param(400, "malformed-request", b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", id="not of UTF-8"),
        pytest.param(400, "malformed-request", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", id="with raw bytes"),
        pytest.param(400, "malformed-request", b"GET /a%5cb HTTP/1.1\r\nHost: a\r\n\r\n", id="with a backslash"),
        pytest.param(400, "malformed-request", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", id="with a fragment"),
        pytest.param(
            400,
            "malformed-request",
            HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            id="of two lengths",
        ),
        pytest.param(400, "malformed-request", HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="encoded twice"),
        pytest.param(
            400,
            "malformed-request",
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na",
            id="that upgrades with a body",
        ),
        pytest.param(
            414, "uri-too-long", b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="with a long URL"
        ),
        pytest.param(431, "header-fields-too-large", HEAD + b"a: b\r\n" * 100 + b"\r\n", id="with many headers"),
        pytest.param(431, "header-fields-too-large", HEAD + b"a: " + b"b" * 16_400 + b"\r\n\r\n", id="with a long one"),
        pytest.param(431, "header-fields-too-large", HEAD + b"a: " + b"b" * 30_000, id="with an endless one"),
    ],
)
async def test_a_request_is_refused_with_a_problem(server: Server, status: int, code: str, request_: bytes) -> None:
    client = await server.connect()
    await client.send(request_)
    answered, headers, body = await client.answer()

    assert answered == status
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["request_id"] == headers["x-request-id"]
    assert headers["connection"] == "close"
    assert await client.rest() == b""
    assert server.app.paths == []


@pytest.mark.parametrize("path", [b"/a%2Fb", b"/a+b;c=d?e=%2F..&f", b"/v1/datasets/f@3", b"/...", b"/%C3%A9"])
async def test_what_is_only_unusual_passes(server: Server, path: bytes) -> None:
    status, _, _ = await server.ask(b"GET ", path, b" HTTP/1.1\r\nHost: a\r\n\r\n")

    assert status == 200


async def test_an_upgrade_is_ignored_and_the_connection_ends(server: Server) -> None:
    client = await server.connect()
    await client.send(HEAD, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n")
    status, headers, _ = await client.answer()

    assert (status, headers["connection"]) == (200, "close")
    assert await client.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD, b"\r\n"])
async def test_a_head_that_does_not_end_is_not_waited_for(server: Server, sent: bytes) -> None:
    status, _, body = await server.ask(sent)

    assert (status, json.loads(body)["code"]) == (408, "request-timeout")


async def test_a_second_head_has_the_same_deadline(server: Server) -> None:
    client = await server.connect()
    await client.send(HEAD, b"\r\n", b"GET")
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 408


@pytest.mark.parametrize("length", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_stops_is_not_waited_for(server: Server, length: bytes) -> None:
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n", length, b"\r\n\r\n1\r\na\r\n")
    status, _, body = await client.answer()

    assert (status, json.loads(body)["code"]) == (408, "request-timeout")
    await asyncio.wait_for(server.app.gone.wait(), 5)


async def test_a_body_that_keeps_coming_may_take_longer_than_the_window(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n")
    for _ in range(4):  # 5,000 bytes a second for 0.4 s; the window is 0.3 s
        await client.send(b"a" * 500)
        await passing(0.1)

    assert await client.answer() == (200, {"content-length": "4"}, b"2000")


async def test_a_body_that_stops_after_the_answer_began_cuts_the_connection(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST /begun HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")

    assert b"408" not in await client.rest()
    assert server.app.gone.is_set()


async def test_a_client_that_we_keep_waiting_is_not_slow(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST /patient HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n", b"a" * 150_000)
    await server.app.under_way.wait()
    await passing(0.7)  # two windows
    server.app.go_on.set()
    await client.send(b"a" * 50_000)

    assert (await client.answer())[2] == b"200000"


async def test_a_client_that_waits_to_be_asked_is_not_slow(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST /patient HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    await passing(0.7)
    server.app.go_on.set()
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"a")

    assert (await client.answer())[2] == b"1"


async def test_a_broken_chunk_is_refused_while_the_application_reads(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nnothing\r\n")

    assert (await client.answer())[0] == 400
    await asyncio.wait_for(server.app.gone.wait(), 5)


async def test_a_broken_request_does_not_break_the_answer_before_it(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /../ HTTP/1.1\r\nHost: a\r\n\r\n")
    await server.app.under_way.wait()
    server.app.go_on.set()

    assert (await client.answer())[0] == 200
    assert await client.rest() == b""


async def test_a_broken_body_behind_another_request_ends_the_connection(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    await server.app.under_way.wait()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")

    assert await client.rest() == b""
    server.app.go_on.set()


async def test_an_early_answer_reaches_a_client_that_goes_on_sending(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 900000000\r\n\r\n")
    for _ in range(20):
        await client.send(b"a" * 100_000)

    assert (await client.answer())[0] == 413
    await client.rest()


async def test_an_early_answer_ends_a_connection_whose_body_never_ends(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")

    assert (await client.answer())[0] == 413
    assert await client.rest() == b""


async def test_a_small_unwanted_body_does_not_cost_the_connection(server: Server) -> None:
    client = await server.connect()
    await client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    assert (await client.answer())[0] == 413
    await client.send(b"abc", HEAD, b"\r\n")

    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_a_client_that_reads_nothing_is_not_waited_for(server: Server, more: bytes) -> None:
    for _ in range(PROMPT.connections):
        await server.stare(b"GET /much HTTP/1.1\r\nHost: a\r\n", more, b"\r\n")
    await eventually(lambda: len(server.app.paths) == PROMPT.connections)

    assert (await server.ask(HEAD, b"\r\n"))[0] == 503
    await passing(1.5)
    assert (await server.ask(HEAD, b"\r\n"))[0] == 200


async def test_an_answer_with_a_request_behind_it_learns_that_its_client_left(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET /followed HTTP/1.1\r\nHost: a\r\n\r\n", HEAD, b"\r\n")
    await client.reader.readuntil(b"more")
    client.writer.transport.abort()

    await asyncio.wait_for(server.app.gone.wait(), 5)
    assert server.app.paths == ["/followed"]


async def test_a_client_that_reads_slowly_gets_all(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET /much HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    size = 0
    for _ in range(10):  # over two windows
        size += len(await client.reader.readexactly(MUCH // 20))
        await passing(0.11)

    assert size + len(await client.rest()) > MUCH


async def test_a_client_that_has_read_all_may_ask_again(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
    await passing(0.2)  # until nothing more goes out
    await client.answer()
    await client.send(HEAD, b"\r\n")

    assert (await client.answer())[0] == 200


@pytest.mark.parametrize(("unsent", "ended"), [(0, "closed"), (1, "aborted")])
async def test_an_idle_connection_ends_at_once_whatever_is_unread(unsent: int, ended: str) -> None:
    config = uvicorn.Config(Application(), lifespan="off", log_config=None, http="httptools")
    connection = edge.protocol_with(PROMPT)(config=config, server_state=ServerState(), app_state={})
    connection.transport = wire = Wire(unsent)
    connection.timeout_keep_alive_handler()

    assert wire.ended == ended


async def test_an_idle_connection_ends_when_it_was_idle_for_so_long_and_not_before() -> None:
    config = uvicorn.Config(Application(), lifespan="off", log_config=None, http="httptools", timeout_keep_alive=1)
    connection = edge.protocol_with(PROMPT)(config=config, server_state=ServerState(), app_state={})
    connection.timeout_keep_alive = 0.3  # type: ignore[assignment]  # seconds, whole ones in settings alone
    connection.transport = wire = Wire(0)
    connection._begin_idle()
    await passing(0.2)
    connection._unset_keepalive_if_required()
    connection._begin_idle()
    await passing(0.2)
    assert not wire.is_closing()
    await eventually(lambda: wire.ended == "closed")


async def test_a_busy_connection_is_not_idle() -> None:
    config = uvicorn.Config(Application(), lifespan="off", log_config=None, http="httptools")
    connection = edge.protocol_with(PROMPT)(config=config, server_state=ServerState(), app_state={})
    connection.timeout_keep_alive = 0
    connection.transport = wire = Wire(0)
    connection._begin_idle()
    connection._unset_keepalive_if_required()
    await eventually(lambda: connection.timeout_keep_alive_task is None)
    assert not wire.ended


class Wire(asyncio.Transport):
    """A transport with so many bytes that its reader has not taken."""

    def __init__(self, unsent: int) -> None:
        super().__init__()
        self._unsent = unsent
        self.ended = ""

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


async def test_there_is_an_end_to_connections() -> None:
    async with serving(Limits(connections=1)) as server:
        await server.ask(HEAD, b"\r\n")
        status, headers, body = await server.ask(HEAD, b"\r\n")

    assert (status, json.loads(body)["code"], headers["retry-after"]) == (503, "overloaded", "1")


async def test_the_defaults_are_those_of_the_guarantees() -> None:
    limits = Limits()

    assert (limits.head, limits.window) == (timedelta(seconds=10), timedelta(seconds=15))
    assert (limits.headers, limits.header_bytes, limits.url, limits.bytes_per_second) == (100, 16384, 8192, 1024)
    assert PROMPT.head < limits.head


PROMPTLY = b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"


async def test_a_whole_request_is_answered_without_a_task(server: Server) -> None:
    client = await server.connect()
    for _ in range(2):
        await client.send(PROMPTLY, b"abc")
        assert (await client.answer())[::2] == (200, b"3")
    assert server.app.tasks == [None, None]


async def test_a_request_whose_body_is_on_its_way_has_a_task(server: Server) -> None:
    client = await server.connect()
    await client.send(PROMPTLY, b"a")
    await eventually(lambda: server.app.paths)
    await client.send(b"bc")
    assert (await client.answer())[::2] == (200, b"3")
    assert server.app.tasks[0] is not None


async def test_of_many_requests_at_once_one_is_answered_without_a_task(server: Server) -> None:
    client = await server.connect()
    await client.send(*[PROMPTLY, b"abc"] * 3)
    for _ in range(3):
        assert (await client.answer())[::2] == (200, b"3")
    assert [task is None for task in server.app.tasks] == [True, False, False]


async def test_who_has_to_wait_after_all_goes_on_in_a_task(server: Server) -> None:
    client = await server.connect()
    await client.send(PROMPTLY.replace(b"/prompt", b"/prompt-but-slow"), b"abc")
    await server.app.under_way.wait()
    server.app.go_on.set()
    assert (await client.answer())[::2] == (200, b"3")


async def test_a_prompt_request_with_a_broken_body_is_refused(server: Server) -> None:
    head = b"POST /prompt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await server.ask(head, b"x\r\n"))[0] == 400
