"""A client's side of a proxied request: its body as it arrives, the news that it left, and the answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.types import Receive, Send

from kit import errors
from kit.bodies import ClientGone


class Incoming:
    """The body of a request, piece by piece, never more than `limit` bytes.

    The HTTP client that reads it wraps what is raised in it, so the reason is kept in `failure`.
    """

    def __init__(self, receive: Receive, limit: int | None) -> None:
        self.failure: errors.Error | ClientGone | None = None
        self._receive = receive
        self._limit = limit
        self._whole = asyncio.Event()
        self.answering = False
        """Whether an answer has begun: then no other can be given."""
        self._answered = False

    async def parts(self) -> AsyncIterator[bytes]:
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.failure = ClientGone()
                raise self.failure
            part = message.get("body", b"")
            size += len(part)
            if self._limit is not None and size > self._limit:
                self.failure = too_large(self._limit)
                raise self.failure
            more = message.get("more_body", False)
            if part:
                yield part
        self._whole.set()

    def is_empty(self) -> None:
        """There is no body, so that nobody will read it."""
        self._whole.set()

    def is_answered(self) -> None:
        """The last byte of the answer is on its way; from here on it is no matter when the client leaves."""
        self._answered = True

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel what is done inside as soon as the client has left. Raises ClientGone then."""
        work = asyncio.current_task()
        assert work is not None
        watcher = asyncio.create_task(self._watch(work))
        try:
            yield
        except asyncio.CancelledError:
            if isinstance(self.failure, ClientGone) and work.uncancel() == 0:
                raise self.failure from None
            raise
        finally:
            watcher.cancel()

    async def _watch(self, work: "asyncio.Task[object]") -> None:
        # Only one may wait for messages at a time: first the reader of the body, then we.
        await self._whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._answered:
            self.failure = ClientGone()
            work.cancel()


def too_large(limit: int) -> errors.TooLarge:
    return errors.TooLarge(f"A body here may have {limit} bytes at most.")


async def start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def part(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
