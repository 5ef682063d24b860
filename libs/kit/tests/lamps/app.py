"""The smallest service that uses all of kit: lamps, which somebody may hold."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic_settings import SettingsConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.types import Receive, Scope, Send

from kit import audit, bodies, errors, etags, events, holds, idempotency
from kit.app import Service, assemble, background, make_api
from kit.callers import Access, Caller, CallerDep, Role, public, requires
from kit.db import Engine, Transaction, make_engine
from kit.ids import uuid7
from kit.paging import PageDep, page_of
from kit.reconcile import first
from kit.routes import RawRoute
from kit.settings import Settings as KitSettings
from kit.testing import SERVICES, eventually
from kit.tokens import load_verifier

from .store.tables import lamps


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="LAMPS_", frozen=True)

    work_dir: Path = Path(tempfile.gettempdir())
    """Where a test looks at what a process does, and says what it should."""


class LampNotFound(errors.NotFound): ...


class LampExists(errors.Conflict): ...


class LampHeld(errors.Conflict): ...


class LampIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]


class LampOut(BaseModel):
    name: str
    phase: str


class LampsOut(BaseModel):
    items: list[LampOut]
    next_page_token: str | None


router = APIRouter(route_class=idempotency.Route)


async def make_lamp(connection: AsyncConnection, caller: Caller, name: str) -> LampOut:
    values = {"project": caller.project, "id": uuid7(), "name": name}
    try:
        await connection.execute(sa.insert(lamps).values(values))
    except sa.exc.IntegrityError:
        raise LampExists(f"There is a lamp {name} already.") from None
    await events.emit(connection, caller.project, "lamp.made", name, {"name": name})
    await audit.record(connection, caller, "make", "lamp", name, {})
    return LampOut(name=name, phase="dark")


async def lock_lamp(connection: AsyncConnection, project: str, name: str) -> LampOut:
    query = sa.select(lamps.c.name, lamps.c.phase).where(lamps.c.project == project, lamps.c.name == name)
    row = (await connection.execute(query.with_for_update())).one_or_none()
    if row is None:
        raise LampNotFound(f"There is no lamp {name}.")
    return LampOut(name=row.name, phase=row.phase)


async def find_held(connection: AsyncConnection, project: str, noun: str, ref: str) -> str:
    if noun != "lamp":
        raise LampNotFound(f"There is no {noun} here.")
    return (await lock_lamp(connection, project, ref)).name


@router.post("/v1/lamps", status_code=201)
@requires(Role.EDITOR)
async def create_lamp(body: LampIn, caller: CallerDep, transaction: Transaction, response: Response) -> LampOut:
    made = await make_lamp(transaction, caller, body.name)
    response.headers["location"] = f"/v1/lamps/{made.name}"
    response.headers["etag"] = etags.etag_of(made.phase)
    response.headers["x-made-by"] = caller.subject
    return made


@router.post("/v1/lamps/{name}/refuse")
@requires(Role.EDITOR)
async def refuse_lamp(name: str, caller: CallerDep, transaction: Transaction) -> JSONResponse:
    """An effect, and then an answer that is an error without being raised."""
    await make_lamp(transaction, caller, name)
    return JSONResponse({"detail": "not today"}, 409)


@router.post("/v1/lamps/stream", status_code=202)
@requires(Role.EDITOR, streams=True)
async def stream_lamp(request: Request, caller: CallerDep, engine: Engine) -> LampOut:
    """The body, which is read piece by piece, is the lamp's name."""
    name = b"".join([chunk async for chunk in bodies.chunks(request.receive)]).decode()
    async with idempotency.effect(request, engine, caller, name) as connection:
        return await make_lamp(connection, caller, name)


@router.post("/v1/lamps/measure")
@requires(Role.VIEWER, streams=True)
async def measure_lamp(request: Request) -> int:
    """A POST without an effect."""
    return sum([len(chunk) async for chunk in bodies.chunks(request.receive)])


@router.get("/v1/lamps")
@requires(Role.VIEWER)
async def list_lamps(caller: CallerDep, transaction: Transaction, page: PageDep) -> LampsOut:
    of = [lamps.c.project == caller.project]
    if page.after is not None:
        of.append(lamps.c.name > page.after)
    query = sa.select(lamps.c.name, lamps.c.phase).where(*of).order_by(lamps.c.name).limit(page.limit)
    found = [LampOut(name=row.name, phase=row.phase) for row in await transaction.execute(query)]
    items, token = page_of(found, page, key=lambda lamp: lamp.name)
    return LampsOut(items=items, next_page_token=token)


@router.put("/v1/lamps/{name}")
@requires(Role.EDITOR)
async def light_lamp(name: str, request: Request, caller: CallerDep, transaction: Transaction) -> LampOut:
    lamp = await lock_lamp(transaction, caller.project, name)
    etags.require_match(request, etags.etag_of(lamp.phase))
    mine = (lamps.c.project == caller.project, lamps.c.name == name)
    await transaction.execute(sa.update(lamps).where(*mine).values(phase="lit"))
    return LampOut(name=name, phase="lit")


@router.delete("/v1/lamps/{name}", status_code=204)
@requires(Role.EDITOR)
async def delete_lamp(name: str, request: Request, caller: CallerDep, transaction: Transaction) -> None:
    lamp = await lock_lamp(transaction, caller.project, name)
    etags.check_match(request, etags.etag_of(lamp.phase))
    if await holds.is_held(transaction, caller.project, "lamp", name):
        who = await holds.holders(transaction, caller.project, "lamp", name)
        raise LampHeld(f"The lamp {name} is held.", holders=who)
    await transaction.execute(sa.delete(lamps).where(lamps.c.project == caller.project, lamps.c.name == name))


@router.get("/v1/slow")
@public
async def get_slow(request: Request) -> str:
    """Begun, and answered when the test says so."""
    folder: Path = request.state.work_dir
    (folder / "begun").touch()
    await eventually((folder / "go").exists, timedelta(seconds=30))
    return "done"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await bodies.read(scope, receive, limit=10)
    except errors.Error as exc:
        await bodies.answer_problem(scope, send, exc)
        return
    await bodies.answer(send, 200, scope["path_params"]["name"].encode() + b" " + body, {})


ECHO = RawRoute(
    frozenset({"GET", "POST"}), "/v1/echo/{name:path}", echo, Access(Role.VIEWER), {"post": {"summary": "Say it again"}}
)


def background_of(settings: Settings) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def loop(stop: asyncio.Event) -> None:
        while not stop.is_set():
            if (settings.work_dir / "fail-beside").exists():
                raise RuntimeError("asked to fail")
            await first(stop, seconds=0.02)

    return loop


def create_app(settings: Settings, *, ready: Mapping[str, object] | None = None) -> Service:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        engine = make_engine(settings.url)
        if (settings.work_dir / "refuse-start").exists():
            raise RuntimeError("asked not to start")
        async with background(background_of(settings)):
            yield {"engine": engine, "work_dir": settings.work_dir}
        await engine.dispose()

    api = make_api("lamps", lifespan)
    for routes in (router, holds.router(find_held, issuers=SERVICES), events.router(issuers=SERVICES), audit.router()):
        api.include_router(routes)
    return assemble(
        api, verifier=load_verifier(settings.public_keys_file, "lamps"), raw=[ECHO], ready=lambda state: ready
    )
