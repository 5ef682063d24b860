"""A gateway on a real server with a real service behind it, and clients that write what they like."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send

from gateway import actions
from gateway.actions import Wanted
from gateway.app import create_app
from gateway.domain.access import Scope as KeyScope
from gateway.domain.projects import Project
from gateway.settings import SERVICES, Settings
from gateway.store.projects import ProjectStore
from kit.callers import Caller, Role
from kit.edge_rules import Limits
from kit.server import listen, serve
from kit.testing import KeyFolder
from kit.tokens import load_verifier

NOWHERE = "http://127.0.0.1:1"
LIMITS = Limits(head=timedelta(seconds=1), window=timedelta(seconds=1), linger=timedelta(seconds=0.5))


def settings_of(url: str, key_folder: KeyFolder, upstream: str = NOWHERE, **others: Any) -> Settings:
    places = {f"{service}_url": upstream for service in SERVICES}
    given: dict[str, Any] = {
        "database_url": SecretStr(url),
        "private_key_file": key_folder.private("gateway"),
        "public_keys_file": key_folder.public,
        **places,
        **others,
    }
    return Settings(**given)


async def add_project(engine: AsyncEngine, name: str, *, made_by: str | None = None, **members: Role) -> Project:
    async with engine.begin() as connection:
        store = ProjectStore(connection)
        project = await store.add(name, made_by=made_by)
        for subject, role in members.items():
            await store.put_member(name, subject, role)
    return project


async def add_key(
    engine: AsyncEngine,
    project: str = "blue",
    subject: str = "ada",
    role: Role = Role.ADMIN,
    *scopes: KeyScope,
    lasts: timedelta = timedelta(days=1),
    name: str = "a key",
) -> str:
    async with engine.begin() as connection:
        wanted = Wanted(project, name, subject, role, scopes or None, lasts)
        key, _ = await actions.make(connection, wanted, most=1000)
    return str(key)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


Reply = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Upstream:
    """A service: answers what it was asked, unless a test says otherwise."""

    draining: bool = False
    replies: dict[str, Reply] = field(default_factory=dict)
    seen: list[Scope] = field(default_factory=list)
    probes: list[Scope] = field(default_factory=list)
    """What the gateway asks by itself, once a second."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        (self.probes if scope["path"] == "/readyz" else self.seen).append(scope)
        reply = self.replies.get(scope["path"], self.echo)
        await reply(scope, receive, send)

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What was sent, as JSON."""
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            size += len(message["body"])
            more = message["more_body"]
        said = {
            "method": scope["method"],
            "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode().rstrip("?"),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
            "size": size,
        }
        await answer(send, json.dumps(said).encode())

    def asked(self, path: str) -> list[Scope]:
        return [scope for scope in self.seen if scope["path"] == path]


async def answer(send: Send, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    said = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in said.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def says(document: object, status: int = 200, media_type: str = "application/json") -> Reply:
    """A reply that is always the same."""

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, json.dumps(document).encode(), status, {"content-type": media_type})

    return reply


def caller_of(scope: Scope, key_folder: KeyFolder, service: str) -> Caller:
    """Who asks, as the service understands it."""
    token = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
    return load_verifier(key_folder.public, service).verify(token)


@contextlib.asynccontextmanager
async def serving(app: Any, limits: Limits = LIMITS, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of an application on a real server."""
    stop, socket = asyncio.Event(), listen(host, port)
    running = serve(
        app, host="", port=0, drain=timedelta(0), grace=timedelta(seconds=5), limits=limits, stop=stop, sockets=[socket]
    )
    task = asyncio.create_task(running)
    try:
        yield socket.getsockname()[1]
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def upstream_at_work() -> AsyncIterator[Upstream]:
    app = Upstream()
    async with serving(app, Limits()) as port:  # its deadlines must not do what the gateway has to do
        app.port = port
        yield app


@contextlib.asynccontextmanager
async def gateway_at_work(settings: Settings) -> AsyncIterator[int]:
    async with serving(create_app(settings)) as port:
        yield port


def client(port: int, key: str | None = None) -> httpx2.AsyncClient:
    headers = {} if key is None else bearer(key)
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20, trust_env=False)


@dataclass
class Door:
    """A gateway on a real server, with clients for it."""

    port: int
    keys: dict[str, str]
    upstream: Upstream
    settings: Settings

    def client(self, key: str | None = "admin") -> httpx2.AsyncClient:
        return client(self.port, self.keys.get(key, key) if key is not None else None)

    def head(self, line: str, *headers: str, key: str | None = "admin") -> bytes:
        """The head of a request, with a key."""
        known = [] if key is None else [f"Authorization: Bearer {self.keys.get(key, key)}"]
        return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *known, *headers, "", ""]).encode("latin-1")


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and headers of the next answer."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").rstrip().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return int(status.split()[1]), [(name.lower(), value) for name, value in pairs]

    async def chunk(self) -> bytes:
        """The next piece of a chunked body."""
        async with asyncio.timeout(10):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def resident(statm: Path = Path("/proc/self/statm")) -> int:
    """Bytes of memory that this process holds."""
    return int(statm.read_text().split()[1]) * 4096
