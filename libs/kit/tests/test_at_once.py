"""What is answered before any layer hears of it, as clients of a real server see it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send

from kit import at_once, bodies, tracing
from kit.app import Service, assemble, make_api
from kit.callers import Access, Caller, Role
from kit.routes import RawRoute
from kit.server import listen, serve
from kit.testing import KeyFolder
from kit.tokens import load_verifier

from .edge_clients import Client

PATH = "/v1/things/{name}/ask"
ASK = "/v1/things/a/ask"


@dataclass
class Hasty:
    """An application that answers at once what it is asked in capitals."""

    slowly: list[bytes] = field(default_factory=list)
    at_once: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await bodies.read(scope, receive, limit=4 << 20)
        self.slowly.append(body[:3])
        await bodies.answer(send, 200, body[:3].lower(), {"content-type": "text/plain"})

    def now(
        self, scope: Scope, caller: Caller, params: Mapping[str, str], headers: Mapping[bytes, bytes], body: bytes
    ) -> tuple[bytes, bytes] | None:
        if not body[:3].isupper():
            return None
        self.at_once.append((caller.project, params["name"], body[:3]))
        return b"content-type: text/plain\r\n", body[:3].lower()


@asynccontextmanager
async def no_lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    yield {}


def service(keys: KeyFolder, hasty: Hasty) -> Service:
    def route(path: str, **more: Any) -> RawRoute:
        return RawRoute(frozenset({"POST"}), path, hasty.answer, Access(Role.EDITOR), is_prompt=True, **more)

    raw = [route(PATH, at_once=hasty.now), route("/never/{name}")]
    return assemble(make_api("serving", no_lifespan), verifier=load_verifier(keys.public, "serving"), raw=raw)


@dataclass
class Door:
    """A connection to a service whose application is at hand."""

    hasty: Hasty
    client: Client
    keys: KeyFolder
    other: Client

    async def send_apart(self, *parts: bytes) -> None:
        """Each when the server has what was sent before it: it has answered somebody who asked later."""
        for part in parts:
            await self.client.send(part)
            await self.other.send(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            await self.other.answer()

    def head(self, length: int | str, path: str = ASK, **more: str) -> bytes:
        said = {"host": "a", "content-length": str(length), **self.keys.headers("serving"), **more}
        lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in said.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    async def ask(self, body: bytes, path: str = ASK, **more: str) -> tuple[int, dict[str, str], bytes]:
        await self.client.send(self.head(len(body), path, **more), body)
        return await self.client.answer()


@pytest.fixture
async def door(key_folder: KeyFolder) -> AsyncIterator[Door]:
    hasty, stop, bound = Hasty(), asyncio.Event(), listen("127.0.0.1", 0)
    running = serve(service(key_folder, hasty), host="", port=0, drain=timedelta(0), stop=stop, sockets=[bound])
    task = asyncio.create_task(running)
    port = bound.getsockname()[1]
    mine, other = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(2)]
    door = Door(hasty, mine, key_folder, other)
    await door.ask(b"---")  # whoever asks is known from now on
    yield door
    mine.writer.close()
    other.writer.close()
    stop.set()
    await task


def answered() -> float:
    labels = {"method": "POST", "route": PATH, "status": "200"}
    return REGISTRY.get_sample_value("trainyard_requests_total", labels) or 0.0


async def test_both_ways_give_the_same_answer_and_are_counted_alike(door: Door) -> None:
    before = answered()
    status, headers, body = await door.ask(b"ABC", x_request_id="mine")
    slow = await door.ask(b"abc", x_request_id="mine")
    assert (status, headers, body) == slow == (200, headers, b"abc")
    assert headers == {"content-type": "text/plain", "content-length": "3", "x-request-id": "mine"}
    assert door.hasty.at_once == [("demo", "a", b"ABC")]
    assert door.hasty.slowly == [b"---", b"abc"]
    assert answered() == before + 2


async def test_who_brings_no_id_is_given_one(door: Door) -> None:
    ids = {(await door.ask(b"ABC", **more))[1]["x-request-id"] for more in ({}, {"x_request_id": "ü"}, {})}
    assert {len(it) for it in ids} == {36}
    assert len(ids) == len(door.hasty.at_once) == 3


async def test_an_answer_at_once_has_its_span(door: Door) -> None:
    parent = "00-0123456789abcdef0123456789abcdef-bbbbbbbbbbbbbbbb-01"
    found: list[tracing.Span] = []
    with tracing.sent_to(found.append):
        await door.ask(b"ABC", traceparent=parent)
    assert [(span.parent, span.error, span.name) for span in found] == [(parent[36:52], "", f"POST {PATH}")]


async def test_whatever_is_unusual_goes_the_long_way(door: Door) -> None:
    assert (await door.ask(b"ABC", path="/never/a"))[0] == 200
    assert (await door.ask(b"ABC", **door.keys.headers("serving", role=Role.VIEWER)))[0] == 403
    assert (await door.ask(b"ABC", **door.keys.headers("serving", subject="grace")))[0] == 200
    for said in ("Basic x", "Bearer x.y.z", "Bearer ü"):
        assert (await door.ask(b"ABC", authorization=said))[0] == 401
    await door.client.send(door.head(3, accept="a", Accept="b"), b"ABC")
    assert (await door.client.answer())[0] == 200
    assert door.hasty.at_once == []


@pytest.mark.parametrize("size", [3, at_once.HELD])
async def test_a_body_that_comes_in_pieces_is_held_until_it_is_whole(door: Door, size: int) -> None:
    await door.send_apart(door.head(size) + b"AB", b"C" * (size - 2))
    assert (await door.client.answer())[2] == b"abc"
    assert door.hasty.at_once == [("demo", "a", b"ABC")]


@pytest.mark.parametrize(("said", "size"), [(at_once.HELD + 1, at_once.HELD + 1), ("00000003", 3)])
async def test_a_long_body_is_not_held(door: Door, said: int | str, size: int) -> None:
    await door.send_apart(door.head(said) + b"AB", b"C" * (size - 2))
    assert (await door.client.answer())[2] == b"abc"
    assert door.hasty.at_once == []


async def test_the_body_of_a_stranger_is_not_held(door: Door) -> None:
    stranger = {"authorization": "Bearer x.y.z"}
    await door.client.send(door.head(3, **stranger), b"AB")
    assert (await door.client.answer())[0] == 401  # before the rest of it has come


async def test_who_waits_to_be_asked_for_a_body_is_asked(door: Door) -> None:
    await door.client.send(door.head(3, expect="100-continue"))
    assert (await door.client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    await door.client.send(b"ABC")
    assert (await door.client.answer())[2] == b"abc"
    assert door.hasty.slowly[1:] == [b"ABC"]
