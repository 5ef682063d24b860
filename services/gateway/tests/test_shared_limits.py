"""Two gateways, one limit: by a real Redis, without one, and with one that forgets, dies, or talks nonsense."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from gateway.domain.limits import Buckets, Rate
from kit.redis_client import key_of
from kit.testing import DatabaseUrl, KeyFolder, eventually
from kit.testing_redis import RedisServer, redis_server

from .gateways import Upstream, client, gateway_at_work, settings_of

BURST, PER_SECOND = 40, 1.0


server = pytest.fixture(redis_server)


@pytest.fixture
async def pair(
    server: RedisServer, database_url: DatabaseUrl, key_folder: KeyFolder, upstream: Upstream, blue: dict[str, str]
) -> AsyncIterator[list[httpx2.AsyncClient]]:
    told: dict[str, Any] = {"requests_per_second": PER_SECOND, "requests_at_once": BURST}
    settings = settings_of(database_url("gateway"), key_folder, upstream.url, redis_url=SecretStr(server.url), **told)
    async with (
        gateway_at_work(settings) as first,
        gateway_at_work(settings) as second,
        client(first, blue["admin"]) as a,
        client(second, blue["admin"]) as b,
    ):
        yield [a, b]


async def let_in(http: httpx2.AsyncClient, times: int) -> int:
    answers = [await http.get("/v1/models") for _ in range(times)]
    for it in answers:
        assert it.status_code in (200, 429)
        if it.status_code == 429:
            assert 0 < int(it.headers["retry-after"]) <= 2 * BURST / PER_SECOND
            assert "r=0" in it.headers["ratelimit"]
    return sum(it.status_code == 200 for it in answers)


async def up(server: RedisServer) -> None:
    server.start()
    await eventually(server.answers)


async def test_two_gateways_let_in_what_one_would(server: RedisServer, pair: list[httpx2.AsyncClient]) -> None:
    await up(server)
    total = sum([await let_in(http, BURST // 4) for _ in range(4) for http in pair])
    assert BURST <= total <= BURST * 1.25  # and what is told in arrears
    (key,) = server.ask("KEYS", "*")
    assert key.startswith(b"trainyard:4:rate:")
    assert 0 < server.ask("PTTL", key) <= 2 * BURST / PER_SECOND * 1000 + 1000


async def test_without_redis_each_counts_for_itself_and_at_once(pair: list[httpx2.AsyncClient]) -> None:
    async with asyncio.timeout(10):
        assert [BURST <= await let_in(http, BURST + 10) <= BURST + 5 for http in pair] == [True, True]


async def test_a_redis_that_forgets_lets_nobody_in_twice(server: RedisServer, pair: list[httpx2.AsyncClient]) -> None:
    await up(server)
    total = await let_in(pair[0], BURST // 2)
    server.ask("FLUSHALL")
    for http in (*pair, *pair):
        total += await let_in(http, BURST // 2)
    assert BURST <= total <= 2 * BURST


async def test_one_that_dies_and_comes_back_is_used_again(server: RedisServer, pair: list[httpx2.AsyncClient]) -> None:
    await up(server)
    server.kill()
    assert await let_in(pair[0], BURST) == BURST
    await up(server)

    async def is_told() -> bool:
        await let_in(pair[0], 3)
        return bool(server.ask("KEYS", "*"))

    await eventually(is_told, timedelta(seconds=10))
    assert await let_in(pair[1], BURST) < BURST // 2


async def test_nonsense_in_its_place_locks_nobody_out(server: RedisServer, pair: list[httpx2.AsyncClient]) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(b"\xff\x00:99999999999999999999999\r\n$-9\r\n")
        writer.close()

    talking = await asyncio.start_server(nonsense, "127.0.0.1", server.port)
    async with talking:
        assert await let_in(pair[0], BURST) == BURST


def test_what_is_learnt_makes_it_stricter_and_within_bounds() -> None:
    buckets = Buckets(Rate(1, 10), shared=True)
    assert buckets.take("a", 0.0).remaining == 9
    assert [(it.key, it.used, it.ahead) for it in buckets.debits(0.0)] == [("a", 1, 0.0)]
    assert buckets.debits(0.0) == []
    for nothing in (-5.0, 0.0, float("nan"), float("inf"), 0.5):
        buckets.learn("a", nothing, 0.0)
    assert buckets.take("a", 0.0).remaining == 8
    buckets.learn("a", 1e30, 0.0)
    refused = buckets.take("a", 0.0)
    assert not refused.allowed
    assert refused.wait <= 2 * 10 + 1


def test_keys_of_different_parts_are_different() -> None:
    assert key_of("rate", "a:1") != key_of("rate", "a", "1")
    assert key_of("a") == "trainyard:1:a"
