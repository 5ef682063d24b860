"""A service that writes what a test says, byte by byte, and connections of ours to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from gateway.clients.connections import Connection, Connections
from gateway.domain.endpoints import Endpoint
from kit.testing import eventually

ASKED = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
PROMPT = timedelta(seconds=20)
Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """A port at which somebody writes what a test says."""

    def __init__(self) -> None:
        self.connections = 0
        self.endpoint = Endpoint("")
        self.ended: list[bool] = []
        """Of each connection that has ended, whether the other side ended it."""

    @contextlib.asynccontextmanager
    async def at_work(self, answers: Answers) -> AsyncIterator["Service"]:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                await answers(reader, writer)
                self.ended.append(False)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.ended.append(True)
            finally:
                writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        self.endpoint = Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server:
            yield self


def always(*pieces: bytes, then_close: bool = False) -> Answers:
    """The same answer to every request."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if then_close:
                return

    return answers


async def is_closed(connection: Connection) -> None:
    await eventually(lambda: not connection.is_usable)


async def holds(connection: Connection, size: int) -> None:
    await eventually(lambda: connection.waiting == size)


async def pause(seconds: float) -> None:
    """What a test measures is time that passes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def pool_for(within: timedelta = PROMPT) -> AsyncIterator[Connections]:
    it = Connections(answer_within=within)
    try:
        yield it
    finally:
        it.close()


async def ask(pool: Connections, endpoint: Endpoint, method: str = "GET") -> Connection:
    connection = await pool.take(endpoint)
    try:
        await connection.ask(ASKED.replace(b"GET", method.encode()), method=method)
    except BaseException:
        connection.abort()
        raise
    return connection


async def whole(pool: Connections, endpoint: Endpoint, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one exchange."""
    connection = await ask(pool, endpoint, method)
    try:
        return connection.status, await connection.read()
    finally:
        await connection.release()
