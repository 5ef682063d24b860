"""A client's side of a proxied request: its body as it arrives, the news that it left, and the answer."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType

from starlette.types import Message, Receive, Send

from kit import errors
from kit.bodies import ClientGone

PROMPT = 0.02
"""Seconds for which nobody watches whether a client is still there, and twice that at most: most answers are back."""


class Incoming:
    """The body of a request, piece by piece, never more than `limit` bytes.

    The HTTP client that reads it wraps what is raised in it, so the reason is kept in `failure`.
    """

    def __init__(self, receive: Receive, limit: int | None) -> None:
        self.failure: errors.Error | ClientGone | None = None
        self._receive = receive
        self._limit = limit
        self._is_whole = False
        self._watching: asyncio.Event | None = None
        self.answering = False
        """Whether an answer has begun: then no other can be given."""
        self.answered = False
        """Whether its last byte is on its way: from here on it is no matter when the client leaves."""

    async def parts(self) -> AsyncIterator[bytes]:
        size, more = 0, True
        while more:
            message = await self._receive()
            part = self._taken(message, size)
            size += len(part)
            more = message.get("more_body", False)
            if part:
                yield part
        self.is_read()

    async def whole(self) -> bytes:
        """All of it, where that is little."""
        body, more = b"", True
        while more:
            message = await self._receive()
            body += self._taken(message, len(body))
            more = message.get("more_body", False)
        self.is_read()
        return body

    def _taken(self, message: Message, size: int) -> bytes:
        """The next piece, `size` bytes having come before it."""
        if message["type"] == "http.disconnect":
            self.failure = ClientGone()
            raise self.failure
        part: bytes = message.get("body", b"")
        if self._limit is not None and size + len(part) > self._limit:
            self.failure = too_large(self._limit)
            raise self.failure
        return part

    def is_read(self) -> None:
        """There is no more of the body, so that nobody waits for it."""
        self._is_whole = True
        if self._watching is not None:
            self._watching.set()

    async def watch(self, work: "asyncio.Task[object]") -> None:
        # Only one may wait for messages at a time: first the reader of the body, then we.
        if not self._is_whole:
            self._watching = asyncio.Event()
            await self._watching.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.answered:
            self.failure = ClientGone()
            work.cancel()


class Watch:
    """Begins to look after requests that take their time. One timer does for all: most are over when it comes round."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._young: list[Watched] = []
        self._older: list[Watched] = []
        self._timer: asyncio.TimerHandle | None = None

    def over(self, it: "Watched") -> None:
        self._young.append(it)
        if self._timer is None:
            self._timer = self.loop.call_later(PROMPT, self._look)

    def _look(self) -> None:
        for it in self._older:
            it.begin()
        self._older, self._young = self._young, []
        self._timer = self.loop.call_later(PROMPT, self._look) if self._older else None


class Watched:
    """What is done inside is cancelled as soon as the client has left, and raises ClientGone then.

    A task that waits for the news is made only where an answer takes its time.
    """

    __slots__ = ("_incoming", "_is_over", "_watch", "_watcher", "_work")

    def __init__(self, incoming: Incoming, watch: Watch) -> None:
        self._incoming = incoming
        self._watch = watch
        self._watcher: asyncio.Task[None] | None = None
        self._is_over = False

    def __enter__(self) -> None:
        work = asyncio.current_task(self._watch.loop)
        assert work is not None
        self._work: asyncio.Task[object] = work
        self._watch.over(self)

    def begin(self) -> None:
        """Make the task, unless all is over."""
        if not self._is_over:
            self._watcher = self._watch.loop.create_task(self._incoming.watch(self._work))

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._is_over = True
        if self._watcher is not None:
            self._watcher.cancel()
        failure = self._incoming.failure
        if kind is asyncio.CancelledError and isinstance(failure, ClientGone) and self._work.uncancel() == 0:
            raise failure from None


def too_large(limit: int) -> errors.TooLarge:
    return errors.TooLarge(f"A body here may have {limit} bytes at most.")


async def start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def part(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
