"""What is refused before any application hears of it, as clients of a real server see it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send

from kit import bodies, errors, refusals, tracing
from kit.app import Service, assemble, health, make_api
from kit.callers import Access, Caller, Role
from kit.routes import RawRoute
from kit.server import listen, serve
from kit.testing import KeyFolder
from kit.tokens import load_verifier

from .edge_clients import Client

PATH = "/v1/things/{name}/ask"
ASK = "/v1/things/a/ask"


class Overloaded(errors.Unavailable): ...


@dataclass
class Crowd:
    """An application that is asked too much as long as there is an error."""

    error: errors.Error | None = None
    asked: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path_params"]["name"])
        await bodies.answer(send, 200, await bodies.read(scope, receive, limit=1000), {})

    def refuses(self, scope: Scope, caller: Caller, params: Mapping[str, str]) -> errors.Error | None:
        if self.error is not None:
            self.refused.append((caller.project, params["name"]))
        return self.error


@asynccontextmanager
async def no_lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    yield {}


def service(keys: KeyFolder, crowd: Crowd) -> Service:
    def route(path: str, access: Access, **more: Any) -> RawRoute:
        return RawRoute(frozenset({"POST"}), path, crowd.answer, access, is_prompt=True, **more)

    raw = [
        route(PATH, Access(Role.EDITOR), refuses=crowd.refuses),
        route("/inner/{name}", Access(Role.EDITOR, frozenset({"pipelines"})), refuses=crowd.refuses),
        route("/never/{name}", Access(Role.EDITOR)),
    ]
    return assemble(make_api("serving", no_lifespan), verifier=load_verifier(keys.public, "serving"), raw=raw)


@dataclass
class Door:
    """A connection to a service whose crowd is at hand."""

    crowd: Crowd
    client: Client
    keys: KeyFolder

    async def ask(
        self, path: str = ASK, *, head: Mapping[str, str] | None = None, **whose: Any
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {"host": "a", "content-length": "3", **self.keys.headers("serving", **whose), **(head or {})}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await self.client.send("\r\n".join(lines).encode(), b"abc")
        return await self.client.answer()


@pytest.fixture
async def door(key_folder: KeyFolder) -> AsyncIterator[Door]:
    crowd, stop, bound = Crowd(), asyncio.Event(), listen("127.0.0.1", 0)
    port = bound.getsockname()[1]
    running = serve(service(key_folder, crowd), host="", port=0, drain=timedelta(0), stop=stop, sockets=[bound])
    task = asyncio.create_task(running)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Door(crowd, Client(reader, writer), key_folder)
    writer.close()
    stop.set()
    await task


def refused(route: str = PATH) -> float:
    labels = {"method": "POST", "route": route, "status": "503"}
    return REGISTRY.get_sample_value("trainyard_requests_total", labels) or 0.0


async def test_who_has_been_let_in_is_refused_without_the_application(door: Door) -> None:
    assert (await door.ask())[::2] == (200, b"abc")
    door.crowd.error = Overloaded("Too many wait.", retry_after=timedelta(seconds=7))
    before = refused()
    for name in ("a", "b"):  # on the connection that was there before, and stays
        status, headers, body = await door.ask(f"/v1/things/{name}/ask")
        problem = json.loads(body)
        assert (status, headers["retry-after"], problem["code"], problem["status"]) == (503, "7", "overloaded", 503)
        assert problem["request_id"] == headers["x-request-id"] != "00000000-0000-4000-8000-000000000000"
    assert door.crowd.refused == [("demo", "a"), ("demo", "b")]
    assert refused() == before + 2
    door.crowd.error = None
    assert (await door.ask())[::2] == (200, b"abc")
    assert door.crowd.asked == ["a", "a"]


async def test_the_id_that_a_request_brings_is_its_own(door: Door) -> None:
    await door.ask()
    door.crowd.error = Overloaded("Too many wait.")
    for identity in ("mine", "11111111-2222-4333-8444-555555555555", "mine"):
        _, headers, body = await door.ask(head={"x-request-id": identity})
        assert headers["x-request-id"] == json.loads(body)["request_id"] == identity
        assert int(headers["content-length"]) == len(body)


async def test_every_reason_is_said_as_it_is_however_many_there_are(door: Door) -> None:
    await door.ask()
    for number in (*range(refusals.KEPT + 1), 0):
        door.crowd.error = Overloaded(f"{number} wait.")
        assert json.loads((await door.ask())[2])["detail"] == f"{number} wait."


async def test_strangers_hear_what_they_always_hear(door: Door) -> None:
    await door.ask()
    await door.ask(role=Role.VIEWER)
    await door.ask("/inner/a", issuer="pipelines")
    door.crowd.error = Overloaded("Too many wait.")
    assert (await door.ask(role=Role.VIEWER))[0] == 403
    assert (await door.ask("/inner/a"))[0] == 404
    assert (await door.ask(head={"authorization": "Basic x"}))[0] == 401
    assert (await door.ask(head={"authorization": "Bearer x.y.z"}))[0] == 401
    assert (await door.ask("/never/a"))[0] == 200
    assert (await door.ask(subject="grace"))[0] == 200  # not known yet: her token has to be verified first
    assert door.crowd.refused == []
    assert (await door.ask("/inner/a", issuer="pipelines"))[0] == 503
    assert (await door.ask())[0] == 503


async def test_a_connection_that_ends_anyway_is_answered_by_the_application(door: Door) -> None:
    await door.ask()
    door.crowd.error = Overloaded("Too many wait.")
    assert (await door.ask(head={"connection": "close"}))[0] == 200


async def test_a_refusal_has_its_span(door: Door) -> None:
    parent = "00-0123456789abcdef0123456789abcdef-bbbbbbbbbbbbbbbb-01"
    await door.ask()
    door.crowd.error = Overloaded("Too many wait.")
    found: list[tracing.Span] = []
    with tracing.sent_to(found.append):
        _, headers, _ = await door.ask(head={"traceparent": parent})
    assert [(span.parent, span.error, span.name) for span in found] == [(parent[36:52], "503", f"POST {PATH}")]
    assert found[0].attributes["trainyard.request_id"] == headers["x-request-id"]


def test_an_application_that_remembers_nobody_refuses_nobody() -> None:
    headers = [(b"authorization", b"Bearer x")]
    assert health().at_once({"method": "GET", "path": "/livez", "headers": headers}, b"") is None
    assert refusals.nobody("x") is None
