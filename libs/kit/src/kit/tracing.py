"""Traces: which one this work belongs to, and the spans of it that a collector is told of, if there is one.

The context of the work in hand is a W3C `traceparent` in a context variable. It is there with and without a collector,
since log lines, rows and neighbours get it; spans are kept only when `exported` says where to.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from kit.ids import random_digits

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)

# W3C Trace Context, version 00: trace id, parent id, flags.
_TRACE = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1
_HALF = 1 << 64
LONGEST = 200
"""Characters of a name or of a text among the attributes."""
CLOSE = 2.0
"""Seconds that an ending process waits at most for a collector."""
Value = str | int | float | bool


class Kind(StrEnum):
    """Who a span is of."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


@dataclass(slots=True, kw_only=True)
class Span:
    """A piece of work. Times are nanoseconds since the epoch."""

    name: str
    context: str
    """Its own traceparent: the parent of what it causes."""
    parent: str = ""
    """The id of the span that caused it; none begins a trace."""
    kind: Kind = Kind.INTERNAL
    began: int = 0
    ended: int = 0
    error: str = ""
    """The kind of failure it ended with. Never its message, which may hold what is somebody's."""
    attributes: dict[str, Value] = field(default_factory=dict)
    service: str = ""
    """Whose it is, if not this process's own."""
    is_kept: bool = True


Sink = Callable[[Span], None]
_sink: Sink | None = None
_ratio = 1.0
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def is_on() -> bool:
    """Whether anybody hears of spans."""
    return _sink is not None


def child_of(parent: str | None) -> str:
    """The trace context for what this process does: same trace, our own span. A bad parent begins a new trace."""
    found = _TRACE.fullmatch(parent) if parent else None
    fresh = random_digits()[:16]
    if found is None:
        trace = random_digits()
        return f"00-{trace}-{fresh}-{'01' if _ratio >= 1 or int(trace[16:], 16) < _ratio * _HALF else '00'}"
    return f"00-{found[1]}-{fresh}-{found[3]}"


def id_in(context: str | None) -> str:
    """The span that a traceparent names; none of what is none."""
    found = _TRACE.fullmatch(context or "")
    return "" if found is None else found[2]


def is_sampled(context: str) -> bool:
    """Whether the spans of a trace are kept. Whoever began it decided that."""
    return bool(int(context[-2:], 16) & _SAMPLED)


def unsampled(context: str | None) -> str:
    """The same trace, of which nothing more is kept: for what is asked again and again."""
    return child_of(context)[:-2] + "00"


def keep(span: Span) -> None:
    """Tell of a span that has ended."""
    if _sink is not None and span.is_kept and is_sampled(span.context):
        _sink(span)


def note(**attributes: Value) -> None:
    """Say more of the span that this work belongs to."""
    if (span := _current.get()) is not None:
        span.attributes |= {f"trainyard.{name}": value for name, value in attributes.items()}


def skip() -> None:
    """Do not keep the span of this work: nothing happened, and nothing was caused."""
    if (span := _current.get()) is not None:
        span.is_kept = False


@contextlib.contextmanager
def span(name: str, *, kind: Kind = Kind.INTERNAL, parent: str | None = None, **attributes: Value) -> Iterator[Span]:
    """What is done in the block is a span: of the trace of `parent`, or else of the work in hand."""
    cause = traceparent.get() if parent is None else parent
    mine = Span(name=name, context=child_of(cause), parent=id_in(cause), kind=kind, began=time.time_ns())
    mine.attributes |= attributes
    context, current = traceparent.set(mine.context), _current.set(mine)
    try:
        yield mine
    except BaseException as exc:
        mine.error = type(exc).__name__
        raise
    finally:
        traceparent.reset(context)
        _current.reset(current)
        mine.ended = time.time_ns()
        keep(mine)


def begin_call(service: str, method: str, path: str) -> Span | None:
    """A request to a neighbour. Without anybody who hears of it, and outside of any trace, there is no span."""
    cause = traceparent.get()
    if _sink is None or cause is None:
        return None
    said: dict[str, Value] = {"http.request.method": method, "url.path": path, "peer.service": service}
    name, context = f"{method} {service}", child_of(cause)
    return Span(
        name=name, context=context, parent=id_in(cause), kind=Kind.CLIENT, began=time.time_ns(), attributes=said
    )


def said_in(span: Span | None) -> str | None:
    """The traceparent that a request to a neighbour carries."""
    return traceparent.get() if span is None else span.context


def answered(span: Span | None, status: int) -> None:
    """Say what the neighbour answered."""
    if span is not None:
        span.attributes["http.response.status_code"] = status
        span.error = str(status) if status >= 400 else ""


def end(span: Span | None, error: BaseException | None = None) -> None:
    """It has ended, and how."""
    if span is not None:
        span.error = span.error if error is None else type(error).__name__
        span.ended = time.time_ns()
        keep(span)


@contextlib.contextmanager
def call(service: str, method: str, path: str) -> Iterator[Span | None]:
    """A request to a neighbour, from its head to the end of the answer."""
    mine = begin_call(service, method, path)
    try:
        yield mine
    except BaseException as exc:
        end(mine, exc)
        raise
    else:
        end(mine)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What is done in the block belongs to its trace, and leaves no span here or at any neighbour."""
    token = traceparent.set(unsampled(traceparent.get()))
    try:
        yield
    finally:
        traceparent.reset(token)


@contextlib.contextmanager
def sent_to(sink: Sink, *, ratio: float = 1.0) -> Iterator[None]:
    """Tell `sink` of every span that ends meanwhile. It neither blocks nor raises."""
    global _sink, _ratio
    before = _sink, _ratio
    _sink, _ratio = sink, ratio
    try:
        yield
    finally:
        _sink, _ratio = before


@contextlib.contextmanager
def exported(service: str, endpoint: str | None, *, ratio: float = 1.0) -> Iterator[None]:
    """Tell the collector at `endpoint`, the base URL of OTLP over HTTP; with none, nothing is loaded and kept."""
    if endpoint is None:
        yield
        return
    from kit.trace_export import Exporter  # noqa: PLC0415 - megabytes that most processes never need

    exporter = Exporter(service, endpoint)
    try:
        with sent_to(exporter.put, ratio=ratio):
            yield
    finally:
        exporter.close(CLOSE)
