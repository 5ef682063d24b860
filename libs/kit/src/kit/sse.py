"""Server-sent events over rows that are read by key: every event carries its key, so that a cut stream is resumed.

A client that comes back with `Last-Event-ID` gets what follows it, no row twice and none left out. When there is
nothing to say, a comment goes out every 15 seconds, so that nobody on the way takes the silence for a dead connection.
The stream ends with an event `end`: then there will never be more. One that ends without it is to be resumed: it broke,
or the process that sent it was asked to end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

import orjson
from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from kit.problems import is_lost_database
from kit.waiting import is_ending

HEARTBEAT = timedelta(seconds=15)
POLL = timedelta(milliseconds=300)
MEDIA_TYPE = "text/event-stream"
# Nobody may keep or collect the stream on its way.
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


@dataclass(frozen=True)
class Event:
    """One row on the wire. `id` is its key: what a client says it has seen last."""

    id: str
    event: str
    data: object


Fetch = Callable[[str | None], Awaitable[Sequence[Event]]]
Done = Callable[[], Awaitable[bool]]


def wanted(request: Request) -> bool:
    """True when the client asks for a stream rather than a page."""
    return MEDIA_TYPE in request.headers.get("accept", "")


async def stream(
    request: Request,
    fetch_after: Fetch,
    done: Done,
    *,
    poll: timedelta = POLL,
    heartbeat: timedelta = HEARTBEAT,
    follow: Callable[[], AbstractContextManager[asyncio.Event]] = lambda: contextlib.nullcontext(asyncio.Event()),
) -> EventSourceResponse:
    """The rows after the one that the client has seen last, and all that follow until `done`.

    `done` says that no row will be added any more. What `fetch_after` raises at first is still an ordinary answer.
    `follow` gives an event that makes the next look come at once (kit.live); without it, every `poll` is one.
    """
    last = request.headers.get("last-event-id")
    finished = await done()
    rows = await fetch_after(last)

    async def events() -> AsyncIterator[bytes]:
        with follow() as wake:
            async for each in following(wake):
                yield each

    async def following(wake: asyncio.Event) -> AsyncIterator[bytes]:
        nonlocal finished, rows, last
        now = asyncio.get_running_loop().time
        spoke = now()
        while True:
            for row in rows:
                data = orjson.dumps(row.data, default=str).decode()
                yield format_sse_event(id=row.id, event=row.event, data_str=data)
            if rows:
                spoke, last = now(), rows[-1].id
            elif finished:
                yield format_sse_event(event="end", data_str="{}")
                return
            elif is_ending(request):
                return
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), poll.total_seconds())
                if now() - spoke >= heartbeat.total_seconds():
                    spoke = now()
                    yield format_sse_event(comment="waiting")
            wake.clear()
            finished, rows = await _look(fetch_after, done, last)

    return EventSourceResponse(events(), headers=_HEADERS)


async def _look(fetch_after: Fetch, done: Done, last: str | None) -> tuple[bool, Sequence[Event]]:
    # Asked before the rows are read: what was finished then has no row that this reading does not see.
    try:
        return await done(), await fetch_after(last)
    except SQLAlchemyError as exc:
        if is_lost_database(exc):
            return False, ()  # the answer has begun: a database that is away for a while must not cut it
        raise
