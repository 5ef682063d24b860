"""Hints by a real Redis, without one, and with one that dies, forgets, or is nobody that one can talk to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from kit.live import MOST, Live
from kit.redis_client import key_of
from kit.server import listen
from kit.testing import eventually
from kit.testing_redis import RedisServer, redis_server

server = pytest.fixture(redis_server)
CHANNEL = key_of("live", "lamps")


@asynccontextmanager
async def at_work(url: str | None) -> AsyncIterator[Live]:
    """A process of the service, as far as hints go."""
    live, stop = Live("lamps", url), asyncio.Event()
    running = asyncio.create_task(live.run(stop))
    yield live
    stop.set()
    await running


def listeners(server: RedisServer) -> Callable[[], Awaitable[bool]]:
    async def both() -> bool:
        return server.answers() and server.ask("PUBSUB", "NUMSUB", CHANNEL)[1] == 2

    return both


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[tuple[Live, Live]]:
    assert not server.answers()
    server.start()
    async with at_work(server.url) as one, at_work(server.url) as other:
        await eventually(listeners(server))
        yield one, other


async def heard(wake: asyncio.Event) -> None:
    await asyncio.wait_for(wake.wait(), 10)


async def test_who_follows_looks_once_at_first_since_something_may_have_come_before() -> None:
    with Live("lamps", None).follow("1") as wake:
        assert wake.is_set()


async def test_a_hint_reaches_those_who_follow_its_topic_in_every_process(pair: tuple[Live, Live]) -> None:
    one, other = pair
    with one.follow("1") as here, other.follow("1") as there, other.follow("2") as elsewhere:
        for each in (here, there, elsewhere):
            each.clear()
        await one.tell("1")
        assert here.is_set()
        await heard(there)
        assert not elsewhere.is_set()


async def test_without_redis_a_hint_reaches_the_process_itself() -> None:
    async with at_work(None) as live:
        with live.follow("1") as wake:
            wake.clear()
            await live.tell("1")
            assert wake.is_set()


async def test_a_redis_that_was_killed_and_is_back_is_used_again(server: RedisServer, pair: tuple[Live, Live]) -> None:
    one, other = pair
    server.kill()
    await one.tell("lost")
    server.start()
    await eventually(listeners(server))
    with other.follow("1") as wake:
        wake.clear()
        await one.tell("1")
        await heard(wake)


async def test_a_flush_loses_nothing_that_anybody_needs(server: RedisServer, pair: tuple[Live, Live]) -> None:
    one, other = pair
    with other.follow("1") as wake:
        wake.clear()
        server.ask("FLUSHALL")
        await one.tell("1")
        await heard(wake)


async def test_who_follows_looks_again_when_redis_comes_since_hints_were_lost(server: RedisServer) -> None:
    async with at_work(server.url) as live:
        with live.follow("1") as wake:
            wake.clear()
            server.start()
            await heard(wake)


async def test_nonsense_in_the_channel_wakes_nobody(server: RedisServer, pair: tuple[Live, Live]) -> None:
    one, other = pair
    with other.follow("1") as wake:
        wake.clear()
        server.ask("PUBLISH", CHANNEL, "\xff\x00" * 100)
        await one.tell("1")
        await heard(wake)


async def test_one_that_is_no_redis_holds_nobody_up() -> None:
    async with AsyncExitStack() as stack:
        place = stack.enter_context(listen("127.0.0.1", 0))  # takes connections, and says nothing
        live = await stack.enter_async_context(at_work(f"redis://127.0.0.1:{place.getsockname()[1]}/0"))
        for number in range(MOST + 10):
            await asyncio.wait_for(live.tell(str(number)), 1)


@pytest.mark.parametrize("nonsense", [b"*abc\r\n", b":abc\r\n", b"*1\r\n:1\r\n", b":1\r\n", b"%1\r\n*0\r\n:1\r\n"])
async def test_answers_that_are_none_end_nothing(nonsense: bytes) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.read(1 << 16):
            asked += 1
            writer.write(nonsense)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    stop = asyncio.Event()
    live = Live("lamps", f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    running = asyncio.create_task(live.run(stop))
    await live.tell("1")
    await eventually(lambda: asked >= 3)  # it goes on, and tries again
    assert not running.done()
    stop.set()
    await running
    server.close()


async def test_nothing_is_kept_of_those_who_have_left() -> None:
    live = Live("lamps", None)
    with live.follow("1"), live.follow("1"):
        pass
    assert not live._followers
