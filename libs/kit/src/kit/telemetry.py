"""What a service says of each request: its id, its span, a log line, and counts; and how log lines look."""

import asyncio
import atexit
import contextlib
import contextvars
import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TextIO

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit import tracing
from kit.ids import random_id
from kit.metrics import IN_FLIGHT, REQUEST_SECONDS, REQUESTS
from kit.tallying import Counter, Histogram
from kit.tracing import child_of as child_of
from kit.tracing import traceparent as traceparent

log = logging.getLogger("kit.access")

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
QUIET = {"/livez", "/readyz", "/metrics"}


class _InFlight:
    """Requests of all applications of this process; they come and go in one thread."""

    count = 0


IN_FLIGHT.set_function(lambda: _InFlight.count)


class Telemetry:
    """The outermost layer of a service: names each request, times it, and says one line about it.

    Every answer says the request's id, and what an application has put into its state as `answer_headers`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity, context, parent = named(scope)
        request_id.set(identity)
        traceparent.set(context)
        status = 0

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                others = scope["state"].get("answer_headers", ())
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode("ascii")), *others]
            await send(message)

        began = time.perf_counter()
        _InFlight.count += 1
        try:
            await self._app(scope, receive, with_id)
        finally:
            _InFlight.count -= 1
            seconds = time.perf_counter() - began
            match = scope["state"].get("match")
            route = match.path if match else "unmatched"
            _account(scope["method"], route, status, seconds, identity, context)
            if tracing.is_on() and route not in QUIET:
                _trace(scope, context, parent, route, status, seconds)


def named(scope: Scope) -> tuple[str, str, str]:
    """Give a request its id. Says that, the trace context of its span, and the context that it came with."""
    given, parent = _said(scope["headers"])
    identity = given if given and _ID.fullmatch(given) else random_id()
    scope.setdefault("state", {})["request_id"] = identity
    return identity, child_of(parent), parent


def named_in(headers: Mapping[bytes, bytes]) -> tuple[str, str, str]:
    """The same of a request that says everything once."""
    given, parent = headers.get(b"x-request-id"), headers.get(b"traceparent")
    identity = None if given is None else given.decode("latin-1")
    if identity is None or not _ID.fullmatch(identity):
        identity = random_id()
    if parent is None:
        return identity, child_of(None), ""
    cause = parent.decode("latin-1")
    return identity, child_of(cause), cause


def answered(scope: Scope, route: str, status: int, seconds: float, identity: str, context: str, parent: str) -> None:
    """Count and tell of an answer that was given at once, and that no layer saw."""
    _account(scope["method"], route, status, seconds, identity, context)
    if tracing.is_on():
        _trace(scope, context, parent, route, status, seconds)


def _said(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """The first request id and trace context of a request, or nothing."""
    identity = parent = ""
    for name, value in headers:
        if name == b"x-request-id":
            identity = identity or value.decode("latin-1")
        elif name == b"traceparent":
            parent = parent or value.decode("latin-1")
    return identity, parent


@cache  # by what is bounded: the methods that the parser knows, our own routes, and statuses
def _meters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, str(status)), REQUEST_SECONDS.labels(method, route)


def _account(method: str, route: str, status: int, seconds: float, identity: str, context: str) -> None:
    requests, took = _meters(method, route, status)
    requests.add()
    took.add(seconds)
    if route not in QUIET and log.isEnabledFor(logging.INFO):
        _lines.answered(method, route, status, seconds, identity, context)


def _trace(scope: Scope, context: str, parent: str, route: str, status: int, seconds: float) -> None:
    ended = time.time_ns()
    span = tracing.Span(
        name=f"{scope['method']} {route}",
        context=context,
        parent=tracing.id_in(parent),
        kind=tracing.Kind.SERVER,
        began=ended - round(seconds * 1e9),
        ended=ended,
        # Of what no route answered, or of a client that left, there is no status.
        error=str(status) if status >= 500 else "",
    )
    span.attributes = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status,
        "trainyard.request_id": scope["state"]["request_id"],
        **scope["state"].get("span", {}),  # what the application has to say of it
    }
    tracing.keep(span)


class _Lines:
    """The lines about requests, of which there are many: made without a log record, and written some at a time."""

    def __init__(self, service: str = "", stream: TextIO | None = None) -> None:
        self._service = service
        self._stream = stream
        self._waiting: list[tuple[int, str, str, int, float, str, str]] = []
        self._begun: dict[tuple[str, str, int], str] = {}
        self._second = 0
        self._date = ""

    def answered(self, method: str, route: str, status: int, seconds: float, identity: str, context: str) -> None:
        """Say that a request was answered, within 50 ms."""
        if self._stream is None:  # nobody has configured anything: the line is one as all others
            fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
            log.info("answered", extra=fields)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(FLUSH, self.flush)
        self._waiting.append((time.time_ns(), method, route, status, seconds, identity, context))

    def _line(self, at: int, method: str, route: str, status: int, seconds: float, identity: str, context: str) -> str:
        begun = self._begun.get((method, route, status))
        if begun is None:  # by what is bounded, as above
            begun = self._begun[method, route, status] = self._begin(method, route, status)
        plain = '"' not in identity and "\\" not in identity
        said = f'"{identity}"' if plain else orjson.dumps(identity).decode()
        took = f'"seconds":{round(seconds, 6)},"request_id":{said},"trace_id":"{context[3:35]}"'
        return f'{{"time":"{self._time(at)}",{begun},{took}}}\n'

    def _begin(self, method: str, route: str, status: int) -> str:
        fields = {
            "level": "info",
            "service": self._service,
            "logger": log.name,
            "event": "answered",
            "method": method,
            "route": route,
            "status": status,
        }
        return orjson.dumps(fields).decode()[1:-1]

    def _time(self, at: int) -> str:
        """As `datetime.isoformat` has it. Only its milliseconds are new in most lines."""
        second, milliseconds = divmod(at // 1_000_000, 1000)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._date}.{milliseconds:03}+00:00"

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # as logging does with a stream that is broken or closed
                self._stream.write("".join([self._line(*it) for it in waiting]))
                self._stream.flush()


FLUSH = 0.05
_lines = _Lines()


@atexit.register
def flush() -> None:
    """Write what is still to be said of requests."""
    _lines.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, the fields of `extra`, request and trace id."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if (identity := request_id.get()) is not None:
            line["request_id"] = identity
        if (trace := traceparent.get()) is not None:
            line["trace_id"] = trace.split("-")[1]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(service: str, *, stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Make every log line of this process a JSON object on `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(service))
    global _lines
    flush()
    _lines = _Lines(service, stream)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "httpx2", "httpcore2", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # who gave up says so; a second try is nothing to warn of
