"""How a server ends: nothing that was begun is lost, and nothing new is taken."""

import asyncio
import os
import signal
from datetime import timedelta

import pytest

from kit.server import Unfinished, listen, stop_on_signals
from kit.testing import eventually

from .edge_clients import serving

SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_what_was_begun_is_answered_before_the_end() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.send(SLOW)
        await server.app.under_way.wait()
        server.stop.set()
        await eventually(lambda: server.app.draining)
        server.app.go_on.set()

        assert (await client.answer())[0] == 200
        await server.task


async def test_a_draining_server_still_serves_but_keeps_no_connection() -> None:
    async with serving(drain=timedelta(seconds=1)) as server:
        client = await server.connect()
        await client.send(GET)
        assert "connection" not in (await client.answer())[1]
        server.stop.set()
        await eventually(lambda: server.app.draining)
        await client.send(GET)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert (await server.ask(GET))[0] == 200


async def test_nothing_new_is_taken_after_the_drain() -> None:
    async with serving() as server:
        idle = await server.connect()
        await idle.send(GET)
        await idle.answer()
        server.stop.set()
        assert await idle.rest() == b""
        await server.task
        with pytest.raises(OSError, match="Connect call failed"):
            await server.connect()


async def test_a_request_that_outlasts_the_grace_is_cut_off_and_told_about() -> None:
    async with serving(grace=timedelta(seconds=1)) as server:
        client = await server.connect()
        await client.send(SLOW)
        await server.app.under_way.wait()
        server.stop.set()
        with pytest.raises(Unfinished):
            await server.task


async def test_sigterm_and_sigint_ask_to_stop() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        stop = stop_on_signals()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


def test_an_address_may_be_of_ipv6() -> None:
    with listen("::1", 0) as socket:
        assert socket.getsockname()[0] == "::1"


async def test_an_answer_that_was_begun_before_the_drain_is_the_last_on_its_connection() -> None:
    async with serving(drain=timedelta(seconds=1)) as server:
        client, idle = await server.connect(), await server.connect()
        await client.send(SLOW)
        await server.app.under_way.wait()
        server.stop.set()
        await eventually(lambda: server.app.draining)
        server.app.go_on.set()
        assert (await client.answer())[1]["connection"] == "close"
        await idle.send(GET)
        assert (await idle.answer())[1]["connection"] == "close"
