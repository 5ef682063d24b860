"""What a job said: its log and its metrics, as pages, or as a stream when the client accepts `text/event-stream`."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors, sse
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Engine
from kit.live import Live
from kit.paging import PageDep, number_of, page_of
from trainer.api.schemas import LineOut, Page, PointOut
from trainer.api.state import PartsDep
from trainer.domain.jobs import FINAL
from trainer.domain.reports import Kept
from trainer.store.jobs import JobStore
from trainer.store.reports import ReportStore

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])
BATCH = 500
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {sse.MEDIA_TYPE: {}}}}

Read = Callable[[AsyncConnection, int, int], Awaitable[Sequence[Kept[Any]]]]
"""`(connection, after, limit)` → what was kept after that key."""


class EventIdInvalid(errors.Malformed): ...


@router.get("/logs", response_model=Page[LineOut], responses=_STREAM)
@requires(Role.VIEWER)
async def read_logs(
    job_id: uuid.UUID, request: Request, caller: CallerDep, engine: Engine, page: PageDep, parts: PartsDep
) -> Page[LineOut] | EventSourceResponse:
    """The log of all attempts. A stream goes on until the job has ended, and is resumed by `Last-Event-ID`."""

    async def read(connection: AsyncConnection, after: int, limit: int) -> Sequence[Kept[Any]]:
        return await ReportStore(connection).lines(caller.project, job_id, after=after, limit=limit)

    if sse.wanted(request):
        return await _stream(request, engine, caller, job_id, read, "log", LineOut.of, parts.live)
    kept = await _read(engine, caller, job_id, read, number_of(page.after) or 0, page.limit)
    items, token = page_of(kept, page, key=lambda each: str(each.key))
    return Page(items=[LineOut.of(each) for each in items], next_page_token=token)


@router.get("/metrics", response_model=Page[PointOut], responses=_STREAM)
@requires(Role.VIEWER)
async def read_metrics(
    job_id: uuid.UUID, request: Request, caller: CallerDep, engine: Engine, page: PageDep, parts: PartsDep
) -> Page[PointOut] | EventSourceResponse:
    """The metrics of all attempts. A stream goes on until the job has ended, and is resumed by `Last-Event-ID`."""

    async def read(connection: AsyncConnection, after: int, limit: int) -> Sequence[Kept[Any]]:
        return await ReportStore(connection).points(caller.project, job_id, after=after, limit=limit)

    if sse.wanted(request):
        return await _stream(request, engine, caller, job_id, read, "metric", PointOut.of, parts.live)
    kept = await _read(engine, caller, job_id, read, number_of(page.after) or 0, page.limit)
    items, token = page_of(kept, page, key=lambda each: str(each.key))
    return Page(items=[PointOut.of(each) for each in items], next_page_token=token)


async def _read(
    engine: AsyncEngine, caller: Caller, job_id: uuid.UUID, read: Read, after: int, limit: int
) -> Sequence[Kept[Any]]:
    async with engine.begin() as connection:
        await JobStore(connection).get(caller.project, job_id)
        return await read(connection, after, limit)


async def _stream(
    request: Request,
    engine: AsyncEngine,
    caller: Caller,
    job_id: uuid.UUID,
    read: Read,
    name: str,
    shown: Callable[[Kept[Any]], BaseModel],
    live: Live,
) -> EventSourceResponse:
    async with engine.begin() as connection:
        await JobStore(connection).get(caller.project, job_id)

    async def fetch_after(last: str | None) -> list[sse.Event]:
        async with engine.begin() as connection:
            kept = await read(connection, _key_of(last), BATCH)
        return [sse.Event(str(each.key), name, shown(each).model_dump(mode="json")) for each in kept]

    async def done() -> bool:
        async with engine.begin() as connection:
            job = await JobStore(connection).find(caller.project, job_id)
        return job is None or job.phase in FINAL

    return await sse.stream(request, fetch_after, done, follow=lambda: live.follow(str(job_id)))


def _key_of(last: str | None) -> int:
    if last is None:
        return 0
    if not (last.isascii() and last.isdigit() and len(last) <= 18):
        raise EventIdInvalid("The Last-Event-ID is none that this stream gave.")
    return int(last)
