"""Several copies of a service, one of which says that it cannot."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.settings import Settings
from kit.testing import DatabaseUrl, KeyFolder

from .gateways import Upstream, client, gateway_at_work, says, settings_of, upstream_at_work

PREDICT = "/v1/deployments/flights/predict"
BUSY = says({"code": "overloaded"}, 503)


@pytest.fixture
async def other() -> AsyncIterator[Upstream]:
    async with upstream_at_work() as it:
        yield it


@pytest.fixture
async def settings(database_url: DatabaseUrl, key_folder: KeyFolder, upstream: Upstream, other: Upstream) -> Settings:
    return settings_of(database_url("gateway"), key_folder, f"{upstream.url},{other.url}")


@pytest.fixture
async def http(settings: Settings, blue: dict[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway_at_work(settings) as port, client(port, blue["admin"]) as it:
        yield it


async def test_a_copy_that_fails_fast_draws_no_predictions(
    http: httpx2.AsyncClient, upstream: Upstream, other: Upstream
) -> None:
    upstream.replies[PREDICT] = BUSY
    answers = [await http.post(PREDICT, content=b"[1,2]") for _ in range(10)]

    assert [(it.status_code, it.json()["size"]) for it in answers] == [(200, 5)] * 10
    assert len(upstream.asked(PREDICT)) <= 3  # once a second


async def test_what_all_copies_say_is_the_answer(http: httpx2.AsyncClient, upstream: Upstream, other: Upstream) -> None:
    upstream.replies[PREDICT] = other.replies[PREDICT] = BUSY
    answered = await http.post(PREDICT, content=b"[1,2]")

    assert (answered.status_code, answered.json()["code"]) == (503, "overloaded")
    assert len(upstream.asked(PREDICT)) == len(other.asked(PREDICT)) == 1


@pytest.mark.parametrize(("path", "size"), [("/v1/deployments", 5), (PREDICT, 100_000)])
async def test_what_changes_something_or_is_large_is_sent_once(
    http: httpx2.AsyncClient, upstream: Upstream, other: Upstream, path: str, size: int
) -> None:
    upstream.replies[path] = other.replies[path] = BUSY
    answered = await http.post(path, content=b"a" * size)

    assert answered.status_code == 503
    assert len(upstream.asked(path)) + len(other.asked(path)) == 1
