"""uvicorn's HTTP protocol with what it lacks: deadlines, limits, and answers that clients can read.

One connection is in one of these states, of which `_body_open` and `_deaf` are kept here and the rest by uvicorn:
waiting for a head, reading a body, answering, idle, and at last deaf (what still arrives is thrown away).
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from kit import edge_rules
from kit.edge_rules import Limits, Refusal

REFUSALS = Counter("trainyard_edge_refusals_total", "Requests refused before any application saw them.", ["code"])


def protocol_with(limits: Limits) -> type["EdgeProtocol"]:
    """The protocol class that uvicorn is to make for each connection."""
    return type("EdgeProtocol", (EdgeProtocol,), {"limits": limits})


class EdgeProtocol(HttpToolsProtocol):
    """One connection of a client."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._running: RequestResponseCycle | None = None
        self._refusal: Refusal | None = None
        self._head_bytes = 0
        self._body_open = False
        self._body_bytes = 0
        self._paused = False
        self._deaf = False
        self._lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(edge_rules.too_many_connections())
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._after(None)
        self._end_flush()
        # uvicorn tells the newest request only, and those that came before it may still be answered.
        for cycle in (self._running, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not self._body_open:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._await_head()  # a further request on this connection
        super().data_received(data)
        # The parser tells of a header once it has all of it.
        if self._head_bytes > self.limits.header_bytes + self.limits.url and not self._deaf:
            self._refuse(edge_rules.headers_too_large(self.limits))

    # What the transport and the server say of writing and of the end.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin_flush()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._end_flush()

    def timeout_keep_alive_handler(self) -> None:
        # Who has read nothing for so long would keep a connection that only closes once all is sent.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def leave(self) -> None:
        """The process is about to end: an answer that has not begun is the last on its connection, and says so."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._begin_flush()

    # What the parser says. Raising there ends in send_400_response.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        if self._deadline is None:
            self._await_head()  # of a request that came together with the end of another

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.url:
            raise self._because(edge_rules.url_too_long(self.limits))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        if len(self.headers) > self.limits.headers or self._header_bytes > self.limits.header_bytes:
            raise self._because(edge_rules.headers_too_large(self.limits))

    def on_headers_complete(self) -> None:
        upgrade = self.parser.should_upgrade()
        try:
            version, method = self.parser.get_http_version(), self.parser.get_method()
            edge_rules.check_head(version, method, self.url, self.headers, upgrade=upgrade)
        except Refusal as refusal:
            raise self._because(refusal) from None
        super().on_headers_complete()
        self.cycle.transport = _Door(self.transport, self._close)
        if upgrade or getattr(self.config.app, "draining", False):
            self.cycle.keep_alive = False
        self._head_bytes = 0
        self._body_open = True
        self._begin_window()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body_bytes += len(body)
        self._paused = self._paused or self.flow.read_paused

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_open = False
        self._after(None)
        if self.cycle.response_complete:  # an answer that did not want the body: only now is the connection idle
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        if self._deaf:
            return
        super().on_response_complete()
        if self._body_open and self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self._after(self.limits.linger, self._close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or edge_rules.malformed(msg))

    # Deadlines: a connection waits for one thing at a time.

    def _after(self, delay: timedelta | None, act: Callable[[], None] = lambda: None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if delay is None else self.loop.call_later(delay.total_seconds(), act)

    def _await_head(self) -> None:
        late = edge_rules.late("The head of the request took too long.")
        self._after(self.limits.head, lambda: self._refuse(late))

    def _begin_window(self) -> None:
        self._body_bytes = 0
        self._paused = self.flow.read_paused
        self._after(self.limits.window, self._end_window)

    def _end_window(self) -> None:
        # A client that we keep waiting is not slow.
        waited = self._paused or self.flow.read_paused or self.cycle.waiting_for_100_continue
        if not waited and self._body_bytes < self.limits.bytes_per_second * self.limits.window.total_seconds():
            self._refuse(edge_rules.late("The body of the request came too slowly."))
        else:
            self._begin_window()

    def _begin_flush(self) -> None:
        self._end_flush()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._flush = self.loop.call_later(self.limits.write.total_seconds(), self._check_flush)

    def _check_flush(self) -> None:
        sent = self._unsent - self.transport.get_write_buffer_size()
        if sent < self.limits.bytes_per_second * self.limits.write.total_seconds():
            self.transport.abort()
        else:
            self._begin_flush()

    def _end_flush(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    # Ends.

    def _because(self, refusal: Refusal) -> Refusal:
        self._refusal = refusal
        return refusal

    def _refuse(self, refusal: Refusal) -> None:
        REFUSALS.labels(refusal.code).inc()
        cycle, in_body = self.cycle, self._body_open
        self._body_open = True  # more of it may come
        if cycle is None or cycle.response_complete:
            self.transport.write(refusal.response())
        elif not in_body:
            # An earlier answer is under way. It is finished, and the connection ends with it.
            self._after(None)
            self._deaf = True
            cycle.keep_alive = False
            return
        else:
            if not cycle.response_started and not self.pipeline:
                self.transport.write(refusal.response())
            cycle.disconnected = True
            cycle.message_event.set()
        self._close()

    def _close(self) -> None:
        """Close, but let a client that is still sending read what it was told: a close with unread input is a reset."""
        if self._lingering:
            return
        if not self._body_open or self.transport.is_closing():
            self._finish()
            return
        self._deaf = self._lingering = True
        self._unset_keepalive_if_required()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._after(self.limits.linger, self._finish)

    def _finish(self) -> None:
        """Close once all is sent, if the client reads it."""
        self.transport.close()
        self._begin_flush()


class _Door(asyncio.Transport):
    """What an answer writes to and closes."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._close = close

    def write(self, data: Any) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._close()
