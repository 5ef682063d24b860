"""Connections to copies of services, kept and used again: one exchange at a time, its request written in one piece.

For requests that are small and whole before they are sent, which nearly all are. What is streamed up and what goes over
TLS is aiohttp's; errors are of its kind, so that both ways have one end (see decision 0026).
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import aiohttp
import httptools

from gateway.domain.endpoints import Endpoint

HEAD = 64 * 1024
"""Bytes that may come without a byte of a body: the most that a head, a trailer, or the framing of a chunk may have."""
SMALL = 64 * 1024
"""An answer that says to have no more bytes is handed over whole."""
AHEAD = 128 * 1024
"""Bytes of an answer that wait for who reads it, before its service is made to wait."""
CONNECT = 2.0
"""Seconds until a copy that does not even accept is given up."""
KEPT = 15.0
"""Seconds that an idle connection may be used again: fewer than any service keeps one, so that we close first."""
MOST_KEPT = 512
"""Idle connections to one copy."""
BODILESS = frozenset({204, 304})


class Unreached(aiohttp.ClientError):
    """Nothing of the request has left."""

    def __init__(self, text: str, *, refused: bool) -> None:
        super().__init__(text)
        self.refused = refused
        """Nobody listens there, which is cheap to find out."""


class Broken(aiohttp.ClientError):
    """The request has left, and no whole answer came."""


class Silent(Broken, TimeoutError):
    """Nothing came for too long."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that comes on it: its head when `ask` is done, or all of it when it is small."""

    def __init__(self, pool: "Connections", endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """Of the answer; names are in small letters."""
        self.length: int | None = None
        """What the answer says of its length."""
        self._pool = pool
        self._loop = pool.loop
        self._parser: Any = None
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._failure: Broken | None = None
        self._parts: list[bytes] = []
        self._size = self._dry = 0
        self._heard = 0.0
        self._is_small = self._busy = self._bodiless = self._headed = self._complete = self._paused = (
            self._to_its_end
        ) = False
        self._reusable = False

    # What the gateway does.

    @property
    def waiting(self) -> int:
        """Bytes of the answer that nobody has read."""
        return self._size

    @property
    def is_usable(self) -> bool:
        return not self._transport.is_closing()

    async def ask(self, request: bytes, *, method: str) -> None:
        """Send a whole request, and have its answer begin.

        Raises:
            Broken: it has left, and no answer came.
        """
        self.status, self.headers, self.length, self._parts, self._is_small = 0, [], None, [], False
        self._size = self._dry = 0
        self._headed = self._complete = self._reusable = self._to_its_end = False
        self._busy, self._bodiless = True, method == "HEAD"
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._heard = self._loop.time()
        if self._silence is None:
            self._silence = self._loop.call_later(self._pool.answer_within, self._listen)
        self._transport.write(request)
        waiter = self._waiter = self._loop.create_future()
        await waiter
        if self._failure is not None and (not self._headed or self._is_small):
            raise self._failure

    async def _news(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def readany(self) -> bytes:
        """What there is of the body, as soon as there is something; nothing at its end.

        Raises:
            Broken: it broke off.
        """
        while not self._parts:
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._news()
        return self._taken()

    def _taken(self) -> bytes:
        parts, self._parts, self._size = self._parts, [], 0
        if self._paused:
            self._paused = False
            self._heard = self._loop.time()  # it was we who made it wait
            if self.is_usable:
                self._transport.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read(self) -> bytes:
        """All of the body that is left."""
        if self._complete:
            return self._taken()
        parts = []
        while part := await self.readany():
            parts.append(part)
        return b"".join(parts)

    async def release(self) -> None:
        """The exchange is over. What has not come by now is not waited for, and costs the connection."""
        self._busy = False
        transport = self._transport
        in_step = self._complete and self._reusable and not self._paused
        if in_step and not transport.get_write_buffer_size() and not transport.is_closing():
            self._pool.keep(self)
        else:
            transport.abort()

    def abort(self) -> None:
        """Nobody waits for an answer any more."""
        self._busy = False
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    # What the transport says.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._complete:
            # Nobody has asked: whatever it is, it must not become the answer to the next request.
            self._transport.abort()
            return
        self._heard = self._loop.time()
        self._dry += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._spoil(Broken("What the service answered is no HTTP."))
        else:
            if self._dry > HEAD and not self._complete:
                self._spoil(Broken("The head of the service's answer has no end."))

    def eof_received(self) -> None:
        if self._busy and self._headed and self._to_its_end:
            self._complete = True
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._parser = None  # it refers to us
        if self._busy and not self._complete:
            self._fail(Broken("The service closed the connection."))

    # What the parser says. An exception there ends in data_received.

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # else it is a trailer, which nobody passes on
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise ValueError("nobody asked for another protocol")
            self.headers = []  # the answer is still to come
            return
        if status > 599 or self._parser.get_http_version() not in ("1.1", "1.0"):
            raise ValueError("nothing that a client of HTTP/1.1 could be told")
        self.status, self._headed, self._dry = status, True, 0
        framed = self._bodiless = self._bodiless or status in BODILESS
        for name, value in self.headers:
            if name == b"content-length":
                self.length, framed = int(value), True
                self._is_small = self.length <= SMALL
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise ValueError("an encoding that nobody asked for")
                framed = True
        self._to_its_end = not framed
        if self._bodiless:
            self._end(self._parser.should_keep_alive())
            # The parser goes on to wait for the body that only it expects.
            self._parser = None if status not in BODILESS else self._parser
        elif not self._is_small:
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self._complete:
            raise ValueError("a body where there is none")
        self._dry = 0
        self._parts.append(body)
        self._size += len(body)
        if self._is_small:
            return
        if self._size > AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self._headed and not self._complete:
            self._end(self._parser.should_keep_alive())

    def _end(self, reusable: bool) -> None:
        self._complete, self._reusable = True, reusable
        self._wake()

    # Failures.

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: Broken) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()

    def _spoil(self, failure: Broken) -> None:
        """This connection is out of step. An answer that was whole before stays one."""
        self._reusable = False
        if not self._complete:
            self._fail(failure)
        self._transport.abort()

    def _listen(self) -> None:
        """One timer for as long as the connection lives: it looks when something came last."""
        self._silence = None
        if not self._busy or self._complete:
            return  # the next request begins it anew
        now = self._loop.time()
        if self._paused:
            self._heard = now
        left = self._heard + self._pool.answer_within - now
        if left > 0:
            self._silence = self._loop.call_later(left, self._listen)
        else:
            self._fail(Silent("The service was silent for too long."))
            self._transport.abort()


class Connections:
    """All connections to copies, those in use and those that wait to be used again."""

    def __init__(self, *, answer_within: timedelta) -> None:
        """`answer_within` is how long a service may be silent: longer than any long poll, shorter than for ever."""
        self.loop = asyncio.get_running_loop()
        self.answer_within = answer_within.total_seconds()
        self._idle: dict[Endpoint, list[Connection]] = {}
        """By how long they have been idle, the longest first."""
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self, endpoint: Endpoint) -> Connection:
        """A connection that nobody else has.

        Raises:
            Unreached: there is none, and none can be made.
        """
        return self.kept(endpoint) or await self._made(endpoint)

    def kept(self, endpoint: Endpoint) -> Connection | None:
        """One that was used before, if one waits."""
        idle = self._idle.get(endpoint)
        while idle:
            kept = idle.pop()
            if not kept.is_usable:
                continue
            if self.loop.time() - kept.idle_since < KEPT:
                return kept
            kept.close()
        return None

    async def _made(self, endpoint: Endpoint) -> Connection:
        place = endpoint.place
        try:
            async with asyncio.timeout(CONNECT):
                _, made = await self.loop.create_connection(lambda: Connection(self, endpoint), place.host, place.port)
        except OSError as exc:  # TimeoutError is one
            refused = isinstance(exc, ConnectionRefusedError)
            raise Unreached(f"Cannot connect: {type(exc).__name__}", refused=refused) from None
        return made

    def keep(self, connection: Connection, most: int = MOST_KEPT) -> None:
        """It has done what it was taken for, and is in step."""
        idle = self._idle.setdefault(connection.endpoint, [])
        if self._closed or len(idle) >= most:
            connection.close()
            return
        connection.idle_since = self.loop.time()
        idle.append(connection)
        if self._sweep is None:
            self._sweep = self.loop.call_later(KEPT, self.forget)

    def forget(self) -> None:
        """Close what has been idle for too long; of a copy that is gone nothing is left after that."""
        oldest = self.loop.time() - KEPT
        for endpoint, idle in list(self._idle.items()):
            fresh = [it for it in idle if it.idle_since > oldest and it.is_usable]
            for it in set(idle) - set(fresh):
                it.close()
            if fresh:
                self._idle[endpoint][:] = fresh
            else:
                del self._idle[endpoint]
        self._sweep = self.loop.call_later(KEPT, self.forget) if self._idle else None

    def idle(self, endpoint: Endpoint) -> int:
        """How many wait to be used again."""
        return len(self._idle.get(endpoint, ()))

    def close(self) -> None:
        """Those that wait are closed, and those in use will be."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for idle in self._idle.values():
            for it in idle:
                it.close()
        self._idle.clear()


def request_of(
    method: str, target: str, host: str, headers: Sequence[tuple[bytes, bytes]], body: bytes | None
) -> bytes:
    """A request as it goes over the wire.

    Raises:
        ValueError: a header would end before its line does.
    """
    lines = [b"%b %b HTTP/1.1\r\nhost: %b" % (method.encode(), target.encode("ascii"), host.encode("ascii"))]
    lines += [b"%b: %b" % pair for pair in headers if pair[0] != b"content-length"]
    if body is not None or method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d" % len(body or b""))
    head = b"\r\n".join(lines)
    # The edge has refused these already. Here they would make one request two.
    ends = len(lines)
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("a header with a line end in it")
    return b"%b\r\n\r\n%b" % (head, body or b"")
