"""Asks the application as a connection of HTTP would: one guard, limits, queue, counts and log for all protocols."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import Message, Receive, Scope, Send

from serving.grpc.calls import Answer, Request

Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


class Gone(Exception):
    """Nobody was answered: whoever asked has left."""


class Asker:
    """Requests under way outlive whoever asked, as they do on a connection: they are told, and end by themselves."""

    def __init__(self, app: Application, state: Mapping[str, Any]) -> None:
        """`state` is what the application's lifespan gives to requests."""
        self._app = app
        self._state = state
        self._going: set[asyncio.Task[None]] = set()

    async def ask(self, request: Request, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
        """
        Raises:
            Gone: the application answers nobody.
        """
        exchange = _Exchange(request)
        task = asyncio.create_task(self._app(self._scope(request, headers), exchange.receive, exchange.send))
        self._going.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.shield(task)
        finally:
            exchange.gone.set()
        return exchange.answer()

    async def close(self, seconds: float) -> None:
        """Wait for what is under way, and no longer than that."""
        if self._going:
            await asyncio.wait(self._going, timeout=seconds)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits has it too

    def _scope(self, request: Request, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": request.verb,
            "scheme": "http",
            "path": request.path,
            "raw_path": quote(request.path).encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-length", b"%d" % len(request.body)), *request.headers, *headers],
            "client": None,
            "server": None,
            "state": dict(self._state),
        }


class _Exchange:
    """One request and its answer, in memory."""

    def __init__(self, request: Request) -> None:
        self._body: bytes | None = request.body
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], dict(message["headers"])
        else:
            self._parts.append(message.get("body", b""))

    def answer(self) -> Answer:
        if not self._status:
            raise Gone
        return Answer(self._status, self._headers, b"".join(self._parts))
