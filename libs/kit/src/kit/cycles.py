"""One request and its answer, as uvicorn has it, without what costs most there: two writes, an event, and a task.

An application that can answer at once is run at once, when its request is whole: what does not wait needs no task, and
no turn of the loop. When it does wait for something, a task goes on with it from there.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
KEPT_NAMES = 256
_names: dict[bytes, bytes] = {}
"""Names of headers that were looked at, in lower case. Only applications give them."""


class Cycle(RequestResponseCycle):
    """The head of an answer waits for the first piece of its body, but no longer than until the loop comes round."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scope: Any,
        transport: asyncio.Transport,
        flow: FlowControl,
        logger: logging.Logger,
        on_response: Callable[[], None],
        *,
        expects: bool,
        keep_alive: bool,
    ) -> None:
        """`expects` is whether the client waits to be asked for the body."""
        # What uvicorn's own sets, by itself: a call with twelve names costs as much as all the rest of this.
        self.scope, self.transport, self.flow, self.logger = scope, transport, flow, logger
        self.on_response: Callable[[], None] = on_response
        self._event: asyncio.Event | None = None
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects
        self.body = bytearray()
        self.more_body = True
        self.response_started = self.response_complete = False
        self.chunked_encoding: bool | None = None
        self.expected_content_length = 0
        self._loop = loop
        self._head = b""
        self._uncork: asyncio.Handle | None = None

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]  # made only for who waits for it
        """Set when there is more of the body, or nobody there any more."""
        if self._event is None:
            self._event = asyncio.Event()
        return self._event

    def answer(self, content: bytes) -> None:
        """A whole answer, which no application gave, on a connection that is kept."""
        self.response_started = self.response_complete = True
        self.transport.write(content)
        self.on_response()

    async def send(self, message: Any) -> None:
        """One message of the application."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message)
        elif self._head and not self.response_complete and message["type"] == "http.response.body":
            self._first(message)
        else:
            await super().send(message)

    def _start(self, message: Any) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{message['type']}'.")
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        parts, closes = [STATUS_LINE[status]], False
        for name, value in message.get("headers", ()):
            name = _names.get(name) or _checked(name)
            if _CONTROL.search(value):
                raise RuntimeError("Invalid HTTP header value.")
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif name == b"connection" and b"close" in [it.strip() for it in value.lower().split(b",")]:
                self.keep_alive = False
                closes = True
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive and not closes:
            parts.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        self._head = b"".join(parts)
        self._uncork = self._loop.call_soon(self._flush)

    def _first(self, message: Any) -> None:
        """The head and what comes with it, in one write."""
        body, more, head = message.get("body", b""), message.get("more_body", False), self._head
        self._forget()
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            self.transport.write(head)
        elif self.chunked_encoding:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(head + piece + (b"" if more else b"0\r\n\r\n"))
        else:
            if len(body) > self.expected_content_length:
                raise RuntimeError("Response content longer than Content-Length")
            self.expected_content_length -= len(body)
            self.transport.write(head + body)
        if more:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _flush(self) -> None:
        head = self._head
        self._forget()
        if head and not self.disconnected:
            self.transport.write(head)

    def _forget(self) -> None:
        self._head = b""
        if self._uncork is not None:
            self._uncork.cancel()
            self._uncork = None


def _checked(name: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise RuntimeError("Invalid HTTP header name.")
    lower = name.lower()
    if len(_names) < KEPT_NAMES:
        _names[bytes(name)] = lower
    return lower


def run_now(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], waits: Callable[["asyncio.Task[None]"], None]
) -> None:
    """Do what can be done of `work` without waiting. `waits` is told the task that does the rest, if there is any.

    Until `work` first waits there is no current task: it must not ask for one, as `asyncio.timeout` does.
    """
    context = copy_context()
    try:
        first = context.run(work.send, None)
    except StopIteration:
        return
    waits(loop.create_task(_rest(work, first), context=context))


async def _rest(work: Coroutine[Any, Any, None], wanted: Any) -> None:
    # A generator is no coroutine, and a task of Python 3.12 takes nothing else.
    await _Rest(work, wanted)


class _Rest:
    """Goes on where `work` began to wait for `wanted`."""

    def __init__(self, work: Coroutine[Any, Any, None], wanted: Any) -> None:
        self._work = work
        self._wanted = wanted

    def __await__(self) -> Generator[Any, Any, None]:
        work, wanted = self._work, self._wanted
        while True:
            step: Callable[[Any], Any] = work.send
            try:
                given = yield wanted
            except BaseException as exc:  # noqa: BLE001 - all of it is for the work, also that its task is to end
                step, given = work.throw, exc
            try:
                wanted = step(given)
            except StopIteration:
                return
