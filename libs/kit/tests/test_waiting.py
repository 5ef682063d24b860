"""A long poll answers as soon as there is something to say, and in time when there is not."""

import asyncio
from datetime import timedelta

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.types import Message

from kit import problems
from kit.app import Service
from kit.testing import KeyFolder, client_of, eventually
from kit.waiting import DurationInvalid, Wait, duration_of, until


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("0s", 0)]
)
def test_a_time_span_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert duration_of(text, pointer="#/deadline") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1.5s", "1 s", "1w", "٣s", "9999999999s"])
def test_anything_else_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(DurationInvalid) as refused:
        duration_of(text, pointer="#/deadline")
    assert refused.value.errors[0]["pointer"] == "#/deadline"


async def test_what_is_done_already_is_not_waited_for() -> None:
    looks: list[int] = []

    async def read() -> str:
        looks.append(1)
        return "ready"

    assert await until(read, lambda found: found == "ready", timedelta(seconds=60)) == "ready"
    assert len(looks) == 1


async def test_a_wait_ends_with_the_change() -> None:
    phases = iter(["pending", "pending", "ready"])

    async def read() -> str:
        return next(phases)

    assert await until(read, lambda found: found == "ready", timedelta(seconds=60)) == "ready"


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(milliseconds=80)])
async def test_a_wait_ends_in_time_without_a_change(wait: timedelta) -> None:
    async def read() -> str:
        return "pending"

    assert await until(read, lambda found: found == "ready", wait) == "pending"


@pytest.mark.parametrize(
    ("query", "status", "answer"),
    [("", 200, 0), ("?wait=2s", 200, 2), ("?wait=9h", 200, 60), ("?wait=soon", 422, None), ("?wait=", 422, None)],
)
async def test_the_query_says_how_long_and_a_minute_is_the_most(query: str, status: int, answer: int | None) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def get_wait(wait: Wait) -> float:
        return wait.total_seconds()

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        response = await client.get(f"/{query}")
    assert response.status_code == status
    if status == 200:
        assert response.json() == answer
    else:
        assert response.json()["errors"][0]["pointer"] == "?wait"


async def test_nothing_is_held_back_by_a_process_that_ends(app: Service, key_folder: KeyFolder, engine: object) -> None:
    async with client_of(app, key_folder.headers("lamps")) as client:
        waiting = asyncio.create_task(client.get("/internal/v1/events?wait=60s"))
        await eventually(lambda: _looks(1))
        app.draining = True
        answer = await asyncio.wait_for(waiting, 5)
        assert (answer.status_code, answer.json()["events"]) == (200, [])


def _looks(count: int) -> bool:
    return (REGISTRY.get_sample_value("trainyard_requests_in_flight") or 0) >= count


async def test_nobody_looks_any_more_for_a_client_that_has_left() -> None:
    looks = []

    async def read() -> str:
        looks.append(1)
        return "pending"

    api = FastAPI()
    over = asyncio.Event()

    @api.get("/")
    async def get_wait(wait: Wait) -> str:
        found = await until(read, lambda found: False, wait)
        over.set()
        return found

    async def leaves() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"wait=60s", "headers": []}
    await asyncio.wait_for(api(scope, leaves, send), 5)
    assert over.is_set()
    assert len(looks) == 1
