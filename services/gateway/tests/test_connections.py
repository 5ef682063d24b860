"""Connections of our own to a service that answers anything: whole, in pieces, too much, too late, or not at all."""

import asyncio
import socket
from collections.abc import Sequence
from datetime import timedelta

import aiohttp
import pytest

from gateway.clients.connections import (
    AHEAD,
    HEAD,
    KEPT,
    MOST_KEPT,
    Broken,
    Silent,
    Unreached,
    request_of,
)
from gateway.domain.endpoints import Endpoint
from kit.testing import eventually

from .scripted import Service, always, ask, holds, is_closed, pause, pool_for, whole

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "pieces", "said"),
    [
        ("GET", [OK + b"Content-Length: 2\r\n\r\nab"], (200, b"ab")),
        ("GET", [OK, b"Content-Len", b"gth: 4\r\n\r\na", b"b", b"cd"], (200, b"abcd")),
        ("GET", [OK + b"Content-Length: 0\r\n\r\n"], (200, b"")),
        ("GET", [CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"], (200, b"abc")),
        ("GET", [CHUNKED + b"1\r\n", b"a\r\n2;x=y\r\nb", b"c\r\n0\r\nX-Trailer: 1\r\n", b"\r\n"], (200, b"abc")),
        ("GET", [CHUNKED, b"0\r\n\r\n"], (200, b"")),
        ("HEAD", [OK + b"Content-Length: 5\r\n\r\n"], (200, b"")),
        ("HEAD", [OK + b"Content-Length: 99999999\r\n\r\n"], (200, b"")),
        ("HEAD", [CHUNKED], (200, b"")),
        ("GET", [b"HTTP/1.1 204 No Content\r\n\r\n"], (204, b"")),
        ("GET", [b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"], (204, b"")),
        ("GET", [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], (304, b"")),
        ("GET", [b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na"], (200, b"a")),
        ("GET", [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", OK + b"Content-Length: 1\r\n\r\n", b"a"], (200, b"a")),
        ("GET", [b"HTTP/1.1 599 \r\nContent-Length: 1\r\n\r\na"], (599, b"a")),
    ],
)
async def test_what_is_in_step_is_used_again(method: str, pieces: Sequence[bytes], said: tuple[int, bytes]) -> None:
    async with Service().at_work(always(*pieces)) as service, pool_for() as pool:
        assert [await whole(pool, service.endpoint, method) for _ in range(3)] == [said] * 3
        assert (service.connections, pool.idle(service.endpoint)) == (1, 1)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab"], (200, b"ab")),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"], (200, b"ab")),
        ([OK + b"\r\nab", b"cd"], (200, b"abcd")),  # to its end
    ],
)
async def test_what_ends_with_its_connection_is_not_used_again(
    pieces: Sequence[bytes], said: tuple[int, bytes]
) -> None:
    async with Service().at_work(always(*pieces, then_close=True)) as service, pool_for() as pool:
        assert [await whole(pool, service.endpoint) for _ in range(2)] == [said] * 2
        assert (service.connections, pool.idle(service.endpoint)) == (2, 0)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"SSH-2.0-OpenSSH\r\n"],
        [b"HTTP/1.1 20"],
        [OK + b"Content-Length: 5\r\n\r\nab"],
        [OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab"],
        [OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nab"],
        [OK + b"Content-Length: 99999999999999999999999\r\n\r\nab"],
        [OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
        [OK + b"Transfer-Encoding: gzip\r\n\r\nab"],
        [OK + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n"],
        [OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"],
        [b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"],
        [OK + b"X: " + b"a" * (HEAD + 1)],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * (HEAD // 20)],
        [OK + b"X: y\r\n" * (HEAD // 5)],
    ],
    ids=range(17),
)
async def test_what_is_no_answer_is_none_and_costs_its_connection(pieces: Sequence[bytes]) -> None:
    async with Service().at_work(always(*pieces, then_close=True)) as service, pool_for() as pool:
        for _ in range(2):
            with pytest.raises(Broken):
                await whole(pool, service.endpoint)
        assert (service.connections, pool.idle(service.endpoint)) == (2, 0)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 1\r\n\r\nb"),
        ("GET", OK + b"Content-Length: 1\r\n\r\nabc"),
        ("HEAD", OK + b"Content-Length: 1\r\n\r\na"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\na"),
    ],
)
async def test_more_than_one_answer_is_never_the_next_one(method: str, answer: bytes) -> None:
    async with Service().at_work(always(answer)) as service, pool_for() as pool:
        first = [await whole(pool, service.endpoint, method) for _ in range(3)]
        assert {body for _, body in first} <= {b"", b"a"}
        assert (service.connections, pool.idle(service.endpoint)) == (3, 0)


async def test_what_comes_unasked_on_an_idle_connection_is_not_the_next_answer() -> None:
    go_on = asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 1\r\n\r\na")
        await go_on.wait()
        writer.write(OK + b"Content-Length: 1\r\n\r\nb")
        await reader.readexactly(1)

    service = Service()
    async with service.at_work(answers), pool_for() as pool:
        assert await whole(pool, service.endpoint) == (200, b"a")
        go_on.set()
        await eventually(lambda: service.ended == [True])
        assert await whole(pool, service.endpoint) == (200, b"a")
        assert service.connections == 2


async def test_a_kept_connection_that_was_closed_is_left_where_it_lies() -> None:
    said = OK + b"Content-Length: 1\r\n\r\na"  # and nothing of the close that follows
    async with Service().at_work(always(said, then_close=True)) as service, pool_for() as pool:
        for _ in range(3):
            connection = await ask(pool, service.endpoint)
            assert await connection.read() == b"a"
            await connection.release()
            await is_closed(connection)
        assert service.connections == 3


async def test_a_stream_is_handed_over_as_it_comes_and_breaks_off_as_it_does() -> None:
    go_on = asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + b"1\r\na\r\n")
        await go_on.wait()
        writer.write(b"1\r\nb\r\n1")

    async with Service().at_work(answers) as service, pool_for() as pool:
        connection = await ask(pool, service.endpoint)
        assert (connection.status, connection.length) == (200, None)
        assert await connection.readany() == b"a"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.readany()
        go_on.set()
        assert await connection.readany() == b"b"
        for _ in range(2):
            with pytest.raises(Broken):
                await connection.readany()
        await connection.release()
        assert pool.idle(service.endpoint) == 0


async def test_garbage_in_a_stream_comes_after_what_was_none() -> None:
    async with Service().at_work(always(CHUNKED + b"1\r\na\r\nnonsense\r\n")) as service, pool_for() as pool:
        connection = await ask(pool, service.endpoint)
        assert await connection.readany() == b"a"
        with pytest.raises(Broken):
            await connection.readany()
        await connection.release()


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n" % (64 << 20), b"\r\n"])
async def test_who_sends_more_than_is_read_is_made_to_wait(framing: bytes) -> None:
    sent = 0

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + framing)
        for _ in range(64):
            writer.write(b"a" * (1 << 20))
            await writer.drain()
            sent += 1 << 20

    async with Service().at_work(answers) as service, pool_for() as pool:
        connection = await ask(pool, service.endpoint)
        before = -1
        while before != sent:  # until the system's buffers are full
            before = sent
            await pause(0.1)
        assert sent < 32 << 20
        assert connection.waiting <= AHEAD + (1 << 18)
        size = 0
        while piece := await connection.readany():
            size += len(piece)
        assert size == 64 << 20
        await connection.release()


@pytest.mark.parametrize("reads", [True, False])
async def test_an_answer_that_was_ahead_of_its_reader_leaves_no_connection_that_hears_nothing(reads: bool) -> None:
    size = AHEAD + 1
    answer = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"a" * size)
    async with Service().at_work(always(answer)) as service, pool_for() as pool:
        for _ in range(3):
            connection = await ask(pool, service.endpoint)
            await holds(connection, size)
            if reads:
                assert len(await connection.read()) == size
            await connection.release()
        assert service.connections == (1 if reads else 3)


async def test_a_service_that_is_silent_is_given_up_and_one_that_speaks_is_not() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        for _ in range(6):
            await pause(0.1)
            writer.write(b"1\r\na\r\n")
        await reader.readexactly(1)

    service = Service()
    async with service.at_work(slowly), pool_for(timedelta(seconds=0.4)) as pool:
        connection = await ask(pool, service.endpoint)
        came = b""
        while len(came) < 6:
            came += await connection.readany()
        with pytest.raises(Silent):
            await connection.readany()
        await connection.release()
        await eventually(lambda: service.ended == [True])


async def test_silence_before_the_head_is_a_timeout_and_no_second_request() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)

    service = Service()
    async with service.at_work(silent), pool_for(timedelta(seconds=0.1)) as pool:
        with pytest.raises(TimeoutError) as raised:
            await ask(pool, service.endpoint)
        assert isinstance(raised.value, aiohttp.ClientError)
        await eventually(lambda: service.ended == [True])


async def test_an_idle_connection_is_not_taken_for_a_silent_service() -> None:
    patient = timedelta(seconds=0.05)
    async with Service().at_work(always(OK + b"Content-Length: 1\r\n\r\na")) as service, pool_for(patient) as pool:
        for _ in range(3):
            assert await whole(pool, service.endpoint) == (200, b"a")
            await pause(0.1)
        assert service.connections == 1


async def test_who_gives_up_takes_the_connection_along() -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.readexactly(1)

    service = Service()
    async with service.at_work(silent), pool_for() as pool:
        asking = asyncio.create_task(ask(pool, service.endpoint))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(lambda: service.ended == [True])
        assert pool.idle(service.endpoint) == 0


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        nobody = Endpoint(f"http://127.0.0.1:{bound.getsockname()[1]}")
    async with pool_for() as pool:
        with pytest.raises(Unreached) as refused:
            await pool.take(nobody)
        assert refused.value.refused


async def test_idle_connections_are_few_and_not_for_ever() -> None:
    async with Service().at_work(always(OK + b"Content-Length: 1\r\n\r\na")) as service, pool_for() as pool:
        assert await whole(pool, service.endpoint) == (200, b"a")
        kept = await pool.take(service.endpoint)
        await kept.release()  # it has asked nothing new, and is in step
        assert pool.idle(service.endpoint) == 1
        pool.keep(await pool.take(service.endpoint))
        aged = await pool.take(service.endpoint)
        pool.keep(aged)
        aged.idle_since -= KEPT
        other = await pool.take(service.endpoint)
        assert other is not aged
        assert not aged.is_usable
        pool.keep(other)
        pool.forget()
        assert pool.idle(service.endpoint) == 1
        other.idle_since -= KEPT
        pool.forget()
        assert pool.idle(service.endpoint) == 0
        assert not other.is_usable
        many = [await pool.take(service.endpoint) for _ in range(3)]
        for it in many:
            pool.keep(it, most=2)
        assert [it.is_usable for it in many] == [True, True, False]
        assert MOST_KEPT > 64


async def test_what_comes_back_after_the_end_is_closed() -> None:
    async with Service().at_work(always(OK + b"Content-Length: 1\r\n\r\na")) as service, pool_for() as pool:
        connection = await ask(pool, service.endpoint)
        pool.close()
        await connection.release()
        assert not connection.is_usable


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("GET", None, None), ("POST", None, b"0"), ("DELETE", None, None), ("PUT", b"abc", b"3"), ("GET", b"", b"0")],
)
def test_a_request_says_its_length_once(method: str, body: bytes | None, length: bytes | None) -> None:
    written = request_of(method, "/a?b", "host:1", [(b"content-length", b"77"), (b"a", b"\xe9")], body)
    head, _, rest = written.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")

    assert line == f"{method} /a?b HTTP/1.1".encode()
    assert lines == [b"host: host:1", b"a: \xe9", *([] if length is None else [b"content-length: " + length])]
    assert rest == (body or b"")


@pytest.mark.parametrize(
    "header", [(b"a", b"b\r\nc: d"), (b"a", b"b\nc"), (b"a", b"b\rc"), (b"a\r\nb", b"c"), (b"a", b"\0")]
)
def test_one_request_is_never_two(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="line end"):
        request_of("GET", "/", "a", [header], None)
