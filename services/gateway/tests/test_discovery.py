"""Copies behind a name come, go, drain and die; whoever asks through the gateway sees none of it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from gateway.app import create_app
from gateway.clients.connections import Connections
from gateway.clients.discovery import Discovery, addresses_of
from gateway.clients.exchanges import Outgoing
from gateway.clients.http import Clients, clients
from gateway.clients.upstreams import Upstreams
from gateway.settings import Settings
from kit.server import listen, serve
from kit.testing import DatabaseUrl, KeyFolder, eventually

from .certificates import contexts_for
from .gateways import Upstream, answer, client, says, serving, settings_of

PATIENT = timedelta(seconds=150)


@dataclass
class Names:
    """What is known of `service`. None: nobody answers for names."""

    addresses: Sequence[str] | None
    asked: int = 0
    hangs: bool = False

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        assert name == "service"
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.addresses is None:
            raise OSError("Temporary failure in name resolution")
        return self.addresses


@dataclass
class Copies:
    """Two copies of a service at one port of two addresses."""

    port: int
    first: Upstream
    second: Upstream
    names: Names

    def settings(self, url: str, keys: KeyFolder) -> Settings:
        return settings_of(url, keys, f"http://service:{self.port}", resolve_seconds=0.1, ready_seconds=0.1)

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.first.asked("/v1/models")), len(self.second.asked("/v1/models"))


@pytest.fixture
async def copies() -> AsyncIterator[Copies]:
    first, second = Upstream(), Upstream()
    async with serving(first) as port, serving(second, host="127.0.0.2", port=port):
        yield Copies(port, first, second, Names(["127.0.0.1", "127.0.0.2"]))


@pytest.fixture
async def http(
    copies: Copies, database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(copies.settings(database_url("gateway"), key_folder), copies.names)
    async with serving(app) as port, client(port, blue["admin"]) as it:
        yield it


async def ask(http: httpx2.AsyncClient, times: int = 10) -> set[int]:
    return {(await http.post("/v1/models", json={})).status_code for _ in range(times)}


async def test_all_addresses_of_a_name_are_asked_and_hear_the_name(http: httpx2.AsyncClient, copies: Copies) -> None:
    assert await ask(http) == {200}
    assert min(copies.asked) > 0
    heard = {value for scope in copies.first.seen for name, value in scope["headers"] if name == b"host"}
    assert heard == {f"service:{copies.port}".encode()}
    assert {dict(scope["headers"])[b"host"] for scope in copies.second.probes} == heard


async def test_an_address_that_is_gone_ends_what_it_has_and_gets_nothing_new(
    http: httpx2.AsyncClient, copies: Copies
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await answer(send, b"{}")

    copies.names.addresses = ["127.0.0.1"]
    copies.first.replies["/v1/runs"] = slow
    waiting = asyncio.create_task(http.post("/v1/runs"))
    await asyncio.wait_for(begun.wait(), 10)
    copies.names.addresses = ["127.0.0.2"]
    looked = copies.names.asked
    await eventually(lambda: copies.names.asked >= looked + 10)
    before, _ = copies.asked
    assert await ask(http) == {200}
    assert copies.asked[0] == before
    go_on.set()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize("addresses", [None, []])
async def test_without_an_answer_for_the_name_what_was_known_goes_on(
    http: httpx2.AsyncClient, copies: Copies, addresses: Sequence[str] | None
) -> None:
    copies.names.addresses = addresses
    looked = copies.names.asked
    await eventually(lambda: copies.names.asked >= looked + 10)
    assert await ask(http) == {200}


async def test_a_name_that_nobody_knows_yet_is_found_later(http: httpx2.AsyncClient, copies: Copies) -> None:
    async with clients(answer_within=PATIENT) as it:
        upstreams = Upstreams({"registry": [f"http://service:{copies.port}"]}, it)
        names = Names(None)
        discovery = Discovery(upstreams.pools, it.session, names)
        await discovery.begin()
        assert upstreams.pools["registry"].endpoints == []
        stop = asyncio.Event()
        keeping = asyncio.create_task(discovery.keep_current(resolve_every=0.05, ask_every=0.05, stop=stop))
        names.addresses = ["127.0.0.2"]
        await eventually(lambda: [it.ready for it in upstreams.pools["registry"].endpoints] == [True])
        names.hangs = True
        looked = names.asked
        await eventually(lambda: names.asked > looked)
        stop.set()
        await asyncio.wait_for(keeping, 5)  # whoever hangs holds nobody up


async def test_one_that_drains_gets_nothing_new_and_loses_nothing(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], copies: Copies
) -> None:
    """Posts over kept connections, which nobody may send twice, all the time."""
    third, stop, socket = Draining(), asyncio.Event(), listen("127.0.0.3", copies.port)
    copies.names.addresses = ["127.0.0.2", "127.0.0.3"]
    running = serve(third, host="", port=0, drain=timedelta(seconds=1), stop=stop, sockets=[socket])
    server = asyncio.create_task(running)
    app = create_app(copies.settings(database_url("gateway"), key_folder), copies.names)
    async with serving(app) as port, client(port, blue["admin"]) as http:
        answers: list[int] = []
        over = asyncio.Event()

        async def asking() -> None:
            while not over.is_set():
                answers.append((await http.post("/v1/models", json={})).status_code)

        askers = [asyncio.create_task(asking()) for _ in range(4)]
        await eventually(lambda: len(third.asked("/v1/models")) > 20)
        stop.set()
        await asyncio.wait_for(server, 10)
        last = len(third.asked("/v1/models"))
        so_far = len(answers)
        await eventually(lambda: len(answers) > so_far + 50)
        over.set()
        await asyncio.gather(*askers)
        assert set(answers) == {200}
        assert len(third.asked("/v1/models")) == last


class Draining(Upstream):
    """Says that it is not ready once it is asked to end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.draining:
            self.replies["/readyz"] = says({"ready": False}, 503)
        await super().__call__(scope, receive, send)


async def test_when_no_copy_is_ready_they_still_say_why(http: httpx2.AsyncClient, copies: Copies) -> None:
    for it in (copies.first, copies.second):
        it.replies["/readyz"] = it.replies["/v1/models"] = says({"code": "loading"}, 503)
        probes = len(it.probes)
        await eventually(lambda it=it, probes=probes: len(it.probes) > probes + 1)  # type: ignore[misc]
    answered = await http.post("/v1/models")
    assert (answered.status_code, answered.json()["code"]) == (503, "loading")


async def test_one_that_was_dead_is_back_within_a_second_of_answering(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], copies: Copies
) -> None:
    copies.names.addresses = ["127.0.0.1", "127.0.0.4"]
    app = create_app(copies.settings(database_url("gateway"), key_folder), copies.names)
    async with serving(app) as port, client(port, blue["admin"]) as http:
        assert await ask(http, 20) == {200}
        revived = Upstream()
        async with serving(revived, host="127.0.0.4", port=copies.port):

            async def is_asked() -> bool:
                assert await ask(http, 2) == {200}
                return bool(revived.asked("/v1/models"))

            await eventually(is_asked, timedelta(seconds=1))


async def test_a_silent_copy_is_not_ready(copies: Copies) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    copies.first.replies["/readyz"] = silent
    async with clients(answer_within=PATIENT) as it:
        upstreams = Upstreams({"registry": [f"http://127.0.0.{n}:{copies.port}" for n in (1, 2, 9)]}, it)
        await Discovery(upstreams.pools, it.session, copies.names).ask()
        assert [it.ready for it in upstreams.pools["registry"].endpoints] == [False, True, False]


async def test_a_certificate_is_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server_context, client_context = contexts_for("service.internal", tmp_path)
    heard: list[str] = []

    def by_name(connection: Any, name: str, context: ssl.SSLContext) -> None:
        heard.append(name)

    server_context.sni_callback = by_name

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nhost: service.internal:" in head.lower()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    connector = aiohttp.TCPConnector(ssl=client_context)
    async with server, aiohttp.ClientSession(connector=connector) as it:
        both = Clients(it, Connections(answer_within=PATIENT))
        upstreams = Upstreams({"registry": [f"https://service.internal:{port}"]}, both)

        async def resolve(name: str, port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        discovery = Discovery(upstreams.pools, it, resolve)
        await discovery.begin()
        await discovery.ask()
        assert [it.ready for it in upstreams.pools["registry"].endpoints] == [True]
        async with upstreams.send(Outgoing("registry", "GET", "/", [])) as answered:
            assert answered.status == 200
        assert set(heard) == {"service.internal"}


async def test_the_machine_knows_its_own_name() -> None:
    assert "127.0.0.1" in await addresses_of("localhost", 80)
