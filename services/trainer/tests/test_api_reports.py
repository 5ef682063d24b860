"""Logs and metrics: pages that join, and a stream that is resumed where it was cut."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import orjson
import pytest
from makers import add_job
from requests_made import grant, settle
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import server
from kit.app import Service
from kit.testing import KeyFolder, eventually
from trainer.domain.jobs import Job, Phase
from trainer.domain.leased import Attempt
from trainer.domain.reports import JOB, Line, Point
from trainer.store.reports import ReportStore

AT = datetime(2030, 1, 1, tzinfo=UTC)
SSE = {"accept": "text/event-stream"}


async def write(engine: AsyncEngine, attempt: Attempt, numbers: Sequence[int]) -> None:
    async with engine.begin() as connection:
        lines = [Line(number=number, at=AT, level="info", message=f"line {number}") for number in numbers]
        await ReportStore(connection).add_lines(attempt, JOB, lines)
        points = [Point(number=number, at=AT, name="loss", value=1 / number, step=number) for number in numbers]
        await ReportStore(connection).add_points(attempt, JOB, points)


@pytest.fixture
async def job(engine: AsyncEngine) -> Job:
    return await add_job(engine)


@pytest.fixture
async def attempt(engine: AsyncEngine, job: Job) -> Attempt:
    return (await grant(engine, job)).attempt


@pytest.fixture
async def served(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    """On a real server: what streams is joined by the one in the process."""
    stop = asyncio.Event()
    bound: socket.socket = server.listen("127.0.0.1", 0)
    port = bound.getsockname()[1]
    serving = asyncio.create_task(
        server.serve(app, host="", port=0, drain=timedelta(0), stop=stop, sockets=[bound], grace=timedelta(seconds=1))
    )
    headers = key_folder.headers("trainer", project="blue")
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:

        async def up() -> bool:
            return (await client.get("/livez")).status_code == 200

        await eventually(up)
        yield client
    stop.set()
    with contextlib.suppress(server.Unfinished):
        await serving


async def events_of(answer: httpx2.Response) -> AsyncIterator[tuple[str | None, str, Any]]:
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            event[name] = value
        elif "data" in event:
            yield event.get("id"), event["event"], orjson.loads(event["data"])
            event = {}


async def read(client: httpx2.AsyncClient, path: str, count: int, last: str | None = None) -> list[Any]:
    """The first events of a stream, which is then cut."""
    headers = SSE if last is None else SSE | {"last-event-id": last}
    found: list[Any] = []
    async with client.stream("GET", path, headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for event in events_of(answer):
            found.append(event)
            if len(found) == count or event[1] == "end":
                break
    return found


async def test_pages_join(client: httpx2.AsyncClient, engine: AsyncEngine, job: Job, attempt: Attempt) -> None:
    await write(engine, attempt, range(1, 6))
    for kind, name in (("logs", "message"), ("metrics", "step")):
        first = (await client.get(f"/v1/jobs/{job.id}/{kind}", params={"page_size": 3})).json()
        token = first["next_page_token"]
        rest = (await client.get(f"/v1/jobs/{job.id}/{kind}", params={"page_token": token})).json()
        wanted = [f"line {number}" if kind == "logs" else number for number in range(1, 6)]
        assert [item[name] for item in first["items"] + rest["items"]] == wanted
        assert rest["next_page_token"] is None


@pytest.mark.parametrize("kind", ["logs", "metrics"])
async def test_a_cut_stream_is_resumed_by_the_last_event_s_id(
    served: httpx2.AsyncClient, engine: AsyncEngine, job: Job, attempt: Attempt, kind: str
) -> None:
    path = f"/v1/jobs/{job.id}/{kind}"
    await write(engine, attempt, [1, 2, 3])
    first = await read(served, path, 2)
    reading = asyncio.create_task(read(served, path, 10, last=first[-1][0]))
    await write(engine, attempt, [4, 5])  # while it is read
    await settle(engine, job, Phase.SUCCEEDED)
    rest = await reading
    *rows, end = first + rest
    assert end[1] == "end"
    wanted = [f"line {number}" if kind == "logs" else 1 / number for number in range(1, 6)]
    assert [row[2]["message" if kind == "logs" else "value"] for row in rows] == wanted
    assert {row[1] for row in rows} == {"log" if kind == "logs" else "metric"}


async def test_a_stream_of_a_job_that_has_ended_ends(
    served: httpx2.AsyncClient, engine: AsyncEngine, job: Job, attempt: Attempt
) -> None:
    await write(engine, attempt, [1])
    await settle(engine, job, Phase.FAILED)
    assert [event[1] for event in await read(served, f"/v1/jobs/{job.id}/logs", 5)] == ["log", "end"]


async def test_what_cannot_be_streamed_is_a_problem(client: httpx2.AsyncClient, job: Job) -> None:
    path = f"/v1/jobs/{job.id}/logs"
    answer = await client.get(path, headers=SSE | {"last-event-id": "the first"})
    assert (answer.status_code, answer.json()["code"]) == (400, "event-id-invalid")
    gone = await client.get(f"/v1/jobs/{attempt_less()}/logs", headers=SSE)
    assert (gone.status_code, gone.json()["code"]) == (404, "job-not-found")


def attempt_less() -> str:
    return "00000000-0000-7000-8000-000000000000"
