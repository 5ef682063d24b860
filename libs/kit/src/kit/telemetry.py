"""What a service says of itself: request ids, trace context, JSON logs and Prometheus metrics."""

import contextvars
import json
import logging
import re
import secrets
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import TextIO

from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("kit.access")

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
traceparent: contextvars.ContextVar[str | None] = contextvars.ContextVar("traceparent", default=None)

REQUESTS = Counter("trainyard_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("trainyard_request_seconds", "Time to the last byte of the answer.", ["method", "route"])
IN_FLIGHT = Gauge("trainyard_requests_in_flight", "Requests being answered.")

_ID = re.compile(r"[\x21-\x7e]{1,128}")
# W3C Trace Context, version 00: trace id, parent id, flags.
_TRACE = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
QUIET = {"/livez", "/readyz", "/metrics"}


class Telemetry:
    """The outermost layer of a service: names each request, times it, and says one line about it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        identity = given if _ID.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = identity
        request_id.set(identity)
        traceparent.set(child_of(headers.get("traceparent")))
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode("ascii"))]
            await send(message)

        began = time.perf_counter()
        IN_FLIGHT.inc()
        try:
            await self._app(scope, receive, named)
        finally:
            IN_FLIGHT.dec()
            _account(scope, status, time.perf_counter() - began)


def _account(scope: Scope, status: int, seconds: float) -> None:
    match = scope["state"].get("match")
    route = match.path if match else "unmatched"
    REQUESTS.labels(scope["method"], route, str(status)).inc()
    SECONDS.labels(scope["method"], route).observe(seconds)
    if route not in QUIET:
        fields = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 6)}
        log.info("answered", extra=fields)


def child_of(parent: str | None) -> str:
    """The trace context for what this process does: same trace, our own span. A bad parent begins a new trace."""
    found = _TRACE.fullmatch(parent or "")
    trace, flags = (found[1], found[3]) if found else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"


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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "httpx2", "httpcore2", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # who gave up says so; a second try is nothing to warn of
