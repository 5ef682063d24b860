"""A stream of rows: every row once, in order, also for a client that was cut off and comes back."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Request, Response

from kit import errors, problems, sse
from kit.sse import Event

SOON = timedelta(milliseconds=1)
Ending = Callable[[], bool]


class Rows:
    """Rows that come in as they are read: each look finds one batch more."""

    def __init__(self, *batches: list[int], failures: Sequence[Exception | None] = ()) -> None:
        self.coming = list(batches)
        self.rows: list[int] = []
        self.failures = list(failures)
        self.asked: list[str | None] = []

    async def done(self) -> bool:
        finished = not self.coming
        if self.coming:
            self.rows += self.coming.pop(0)
        return finished

    async def fetch_after(self, last: str | None) -> list[Event]:
        self.asked.append(last)
        if last is not None and not last.isdigit():
            raise errors.Malformed("Last-Event-ID is none of ours.")
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        return [Event(str(n), "line", {"message": f"line {n}"}) for n in self.rows if n > int(last or 0)]


async def read(
    rows: Rows, *, heartbeat: timedelta = sse.HEARTBEAT, seen: str | None = None, is_ending: Ending = lambda: False
) -> httpx2.Response:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def follow_lines(request: Request) -> Response:
        assert sse.wanted(request)
        request.scope["state"] = {"is_ending": is_ending}  # as kit.app does it
        return await sse.stream(request, rows.fetch_after, rows.done, poll=SOON, heartbeat=heartbeat)

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        given = {} if seen is None else {"last-event-id": seen}
        return await client.get("/", headers={"accept": "text/event-stream", **given})


def ids_of(response: httpx2.Response) -> list[str]:
    return [line.removeprefix("id: ") for line in response.text.splitlines() if line.startswith("id: ")]


async def test_all_rows_come_in_order_and_then_the_end() -> None:
    response = await read(Rows([1, 2], [], [3]))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert ids_of(response) == ["1", "2", "3"]
    assert response.text.startswith('event: line\ndata: {"message":"line 1"}\nid: 1\n\n')
    assert response.text.endswith("event: end\ndata: {}\n\n")


async def test_a_client_that_comes_back_gets_what_it_has_not_seen() -> None:
    response = await read(Rows([1, 2], [3]), seen="2")
    assert ids_of(response) == ["3"]


async def test_a_row_that_came_with_the_end_is_not_left_out() -> None:
    rows = Rows([1])
    response = await read(rows)
    assert ids_of(response) == ["1"]
    assert rows.asked == [None, "1"]


async def test_silence_is_filled_with_comments() -> None:
    response = await read(Rows([], [], [], [], [1]), heartbeat=2 * SOON)
    assert ": waiting\n\n" in response.text
    assert ids_of(response) == ["1"]


async def test_a_process_that_ends_does_not_wait_for_what_may_come() -> None:
    response = await read(Rows([1], [], [2]), is_ending=lambda: True)
    assert ids_of(response) == ["1"]
    assert "event: end" not in response.text  # so that the client comes back for the rest


async def test_a_bad_last_event_id_is_a_problem_and_no_stream() -> None:
    response = await read(Rows([1]), seen="x")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_database_that_is_away_for_a_while_does_not_cut_the_stream() -> None:
    lost = sa.exc.OperationalError("select", {}, Exception("gone"), connection_invalidated=True)
    response = await read(Rows([1], [2], failures=[None, lost]))
    assert ids_of(response) == ["1", "2"]
    assert response.text.endswith("event: end\ndata: {}\n\n")


async def test_a_defect_cuts_the_stream_without_an_end() -> None:
    wrong = sa.exc.ProgrammingError("select", {}, Exception("no such table"))
    with pytest.raises(sa.exc.ProgrammingError):
        await sse._look(Rows([1], failures=[wrong]).fetch_after, Rows().done, None)


async def test_a_page_is_what_others_want() -> None:
    scope = {"type": "http", "headers": [(b"accept", b"application/json")]}
    assert not sse.wanted(Request(scope))


async def test_a_hint_makes_the_next_look_come_at_once() -> None:
    rows, wake = Rows([1], [], [2]), asyncio.Event()
    app = FastAPI()

    @app.get("/")
    async def follow_lines(request: Request) -> Response:
        never = timedelta(hours=1)
        return await sse.stream(
            request, rows.fetch_after, rows.done, poll=never, follow=lambda: contextlib.nullcontext(wake)
        )

    async def hint() -> None:
        while rows.coming:
            wake.set()
            await asyncio.sleep(0)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        hinting = asyncio.create_task(hint())
        answer = await asyncio.wait_for(client.get("/", headers={"accept": "text/event-stream"}), 10)
        await hinting
    assert ids_of(answer) == ["1", "2"]
