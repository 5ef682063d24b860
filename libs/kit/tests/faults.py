"""A proxy before an S3 server, which does to its answers what networks and busy servers do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import Enum

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Fault(Enum):
    NONE = "passes everything on"
    SILENT = "takes requests and says nothing"
    STALLS = "sends a part of the answer, and then nothing more"
    CUTS = "sends a part of the answer, and hangs up"
    RESETS = "hangs up at once"
    SLOW_DOWN = "503 SlowDown"


class Proxy:
    """`fault` may be changed at any time; it holds for connections that are made or used from then on."""

    def __init__(self, target: int) -> None:
        self.fault = Fault.NONE
        self.times: int | None = None
        """How often the fault happens before everything is passed on again. None: for ever."""
        self.port = 0
        self._target = target
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        for task in self._serving:  # some of them stand still
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _now(self) -> Fault:
        if self.times is not None:
            if self.times == 0:
                return Fault.NONE
            self.times -= 1
        return self.fault

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # whoever asked has gone, or the test is over
        finally:
            self._serving.discard(task)
            await _close(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fault = self._now()
        if fault is Fault.SILENT:
            await asyncio.Event().wait()
        elif fault is Fault.SLOW_DOWN:
            writer.write(b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\n")
            writer.write(f"Content-Length: {len(SLOW_DOWN)}\r\n\r\n".encode() + SLOW_DOWN)
            await writer.drain()
        elif fault is not Fault.RESETS:
            await self._pass_on(head, reader, writer, fault)

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        line, _, rest = head.partition(b"\r\n")
        back.write(line + b"\r\nConnection: close\r\n" + rest)
        sending = asyncio.create_task(_copy(reader, back))
        try:
            left = 100_000 if fault in (Fault.STALLS, Fault.CUTS) else 1 << 60
            while left > 0 and (data := await there.read(min(left, 65536))):
                left -= len(data)
                writer.write(data)
                await writer.drain()
            if left == 0 and fault is Fault.STALLS:
                await asyncio.Event().wait()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await _close(back)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
