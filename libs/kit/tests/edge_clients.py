"""A real server on loopback, and clients that write what they like."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

from starlette.types import Receive, Scope, Send

from kit.edge_rules import Limits
from kit.server import listen, serve

PROMPT = Limits(
    head=timedelta(seconds=0.3),
    window=timedelta(seconds=0.3),
    linger=timedelta(seconds=0.3),
    write=timedelta(seconds=0.5),
    connections=8,
)
MUCH = 8 << 20
"""Bytes; more than the system keeps for a client."""


@dataclass
class Application:
    """Answers with how much it was sent; what it does besides is in the path."""

    draining: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    paths: list[str] = field(default_factory=list)

    tasks: list[object] = field(default_factory=list)
    """Of each request; None where it was answered without one."""

    def is_prompt(self, scope: Scope) -> bool:
        return bool(scope["path"].startswith("/prompt"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.paths.append(scope["path"])
        self.tasks.append(asyncio.current_task())
        self.under_way.set()
        if scope["path"] == "/followed":
            await self._follow(receive, send)
            return
        size = 0
        if scope["path"] != "/early":
            if scope["path"] == "/begun":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            if scope["path"] == "/patient":
                await self.go_on.wait()
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone.set()
                    return
                size += len(message["body"])
                more = message["more_body"]
        if scope["path"] in ("/slow", "/prompt-but-slow"):
            await self.go_on.wait()
        body = str(size).encode() if scope["path"] != "/much" else bytes(MUCH)
        headers = [(b"content-length", str(len(body)).encode())]
        await send(
            {"type": "http.response.start", "status": 413 if scope["path"] == "/early" else 200, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})

    async def _follow(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        leaving = asyncio.create_task(_left(receive))
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
            await asyncio.wait([leaving], timeout=0.01)
        self.gone.set()


async def _left(receive: Receive) -> None:
    await receive()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body by its length."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            return int(status.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()


class Server:
    def __init__(self, app: Application, port: int, stop: asyncio.Event, task: "asyncio.Task[None]") -> None:
        self.app = app
        self.port = port
        self.stop = stop
        self.task = task
        self._sockets: list[socket.socket] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return Client(reader, writer)

    async def stare(self, *parts: bytes) -> None:
        """Send, and never read."""
        it = socket.socket()
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        it.setblocking(False)
        self._sockets.append(it)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(it, ("127.0.0.1", self.port))
        await loop.sock_sendall(it, b"".join(parts))

    async def ask(self, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
        client = await self.connect()
        await client.send(*parts)
        return await client.answer()

    async def close(self) -> None:
        for it in self._sockets:
            it.close()
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.stop.set()
        await asyncio.wait([self.task])


@contextlib.asynccontextmanager
async def serving(
    limits: Limits = PROMPT, drain: timedelta = timedelta(0), grace: timedelta = timedelta(seconds=5)
) -> AsyncIterator[Server]:
    app, stop, bound = Application(), asyncio.Event(), listen("127.0.0.1", 0)
    running = serve(app, host="", port=0, drain=drain, grace=grace, limits=limits, stop=stop, sockets=[bound])
    server = Server(app, bound.getsockname()[1], stop, asyncio.create_task(running))
    try:
        yield server
    finally:
        await server.close()
