"""Spans on their way to a collector, by OTLP over HTTP. Imported only where one is told.

A thread of its own sends them: whatever the collector does, no request waits. What there is no room for, and what the
collector does not take, is dropped and counted.
"""

import contextlib
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from kit.metrics import SPANS_DROPPED, SPANS_EXPORTED
from kit.tracing import LONGEST, Kind, Span

log = logging.getLogger(__name__)
ROOM = 4096
"""Spans that wait at most: with what they say, a few megabytes."""
BATCH = 512
PAUSE = 1.0
"""Seconds between two batches, unless one is full."""
PATIENCE = 5.0
"""Seconds that a collector has for a batch, with all tries."""
KINDS = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}
SCOPE = InstrumentationScope("trainyard", version("trainyard-kit"))


class Exporter:
    """The queue, and the thread that empties it."""

    def __init__(self, service: str, endpoint: str, *, room: int = ROOM, patience: float = PATIENCE) -> None:
        """The environment may say more: OTEL_EXPORTER_OTLP_HEADERS, …_CERTIFICATE, …_COMPRESSION."""
        self._service = service
        self._room = room
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._is_taken = True
        # The library says of every batch that it was not taken; we say it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        session = requests.Session()  # of the library that the exporter brings
        session.stream = True  # an answer's body is never read: it may have no end
        url = f"{endpoint.rstrip('/')}/v1/traces"
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=patience, session=session)
        # A daemon: one that a collector holds up does not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Send it soon, or drop it."""
        if len(self._queue) >= self._room or self._ending.is_set():
            SPANS_DROPPED.labels("no-room").inc()
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH:
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Send what waits, for so long at most."""
        self._ending.set()
        self._wake.set()
        self._thread.join(seconds)
        left = 0
        while batch := self._next():
            left += len(batch)
        if self._thread.is_alive() or left:
            log.warning("traces left behind", extra={"spans": left, "held_up": self._thread.is_alive()})
        SPANS_DROPPED.labels("no-time").inc(left)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it says nothing of what it returns

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(PAUSE)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while batch := self._next():
            self._send(batch)

    def _next(self) -> list[Span]:
        """A batch of what waits. Whoever closes takes from the queue too, while a collector holds the thread up."""
        batch: list[Span] = []
        with contextlib.suppress(IndexError):
            while len(batch) < BATCH:
                batch.append(self._queue.popleft())
        return batch

    def _send(self, batch: Sequence[Span]) -> None:
        try:
            taken = self._exporter.export([self._readable(span) for span in batch]) is SpanExportResult.SUCCESS
        except Exception:
            # Whatever the library meets: the thread goes on, or nothing more is ever sent.
            log.exception("traces not sent")
            taken = False
        (SPANS_EXPORTED if taken else SPANS_DROPPED.labels("not-taken")).inc(len(batch))
        if taken is not self._is_taken:
            self._is_taken = taken
            log.log(*((logging.INFO, "traces are taken again") if taken else (logging.WARNING, "traces not taken")))

    def _readable(self, span: Span) -> ReadableSpan:
        trace, own, flags = span.context[3:35], span.context[36:52], span.context[-2:]
        return ReadableSpan(
            name=span.name[:LONGEST],
            context=_context(trace, own, flags),
            parent=_context(trace, span.parent, flags) if span.parent else None,
            resource=_resource(span.service or self._service),
            attributes={
                name: value[:LONGEST] if isinstance(value, str) else value for name, value in _said(span).items()
            },
            kind=KINDS[span.kind],
            status=Status(StatusCode.ERROR) if span.error else Status(StatusCode.UNSET),
            start_time=span.began,
            end_time=max(span.began, span.ended),
            instrumentation_scope=SCOPE,
        )


def _said(span: Span) -> dict[str, str | int | float | bool]:
    return span.attributes | ({"error.type": span.error} if span.error else {})


def _context(trace: str, span: str, flags: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(int(flags, 16)))


@cache  # a handful of names
def _resource(service: str) -> Resource:
    """Who speaks; OTEL_RESOURCE_ATTRIBUTES may say more."""
    own = {"service.name": service, "service.namespace": "trainyard", "service.version": SCOPE.version or ""}
    return Resource.create(own | {"service.instance.id": f"{socket.gethostname()}-{os.getpid()}"})
