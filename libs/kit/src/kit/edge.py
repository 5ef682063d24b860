"""uvicorn's HTTP protocol with what it lacks: deadlines, limits, and answers that clients can read.

One connection is in one of these states, of which `_body_open` and `_deaf` are kept here and the rest by uvicorn:
waiting for a head, reading a body, answering, idle, and at last deaf (what still arrives is thrown away).
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from kit import cycles, edge_rules
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
        self._idle_since: float | None = None
        self._running: RequestResponseCycle | None = None
        self._whole: cycles.Cycle | None = None
        """What is answered, or begins, once its request is whole."""
        self._pieces: list[bytes] = []
        """Of the body of that."""
        self._prompt = getattr(self.app, "is_prompt", None)
        self._at_once = getattr(self.app, "at_once", None)
        self._awaits = getattr(self._at_once, "awaits", None)
        self._is_awaited: bool | None = None
        """Whether the rest of that is waited for, if it was looked at."""
        self._is_breath_taken = False
        self._refusal: Refusal | None = None
        self._head_bytes = 0
        self._head_open = False
        self._body_open = False
        self._body_bytes = 0
        self._paused = False
        self._deaf = False
        self._lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._door = _Door(transport, self._close)
        if len(self.connections) > self.limits.connections:
            self._refuse(edge_rules.too_many_connections())
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._after(None)
        self._end_flush()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
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
        self._is_breath_taken = False
        super().data_received(data)
        if self._whole is not None:
            self._begin_whole()
        if self._deadline is None and not self._deaf and (self._body_open or self._head_open or self._head_bytes):
            self._await_more()
        # The parser tells of a header once it has all of it.
        if self._head_bytes > self.limits.header_bytes + self.limits.url and not self._deaf:
            self._refuse(edge_rules.headers_too_large(self.limits))

    def _begin_whole(self) -> None:
        """What would be answered at once begins as all others do, if what is left of its body is not waited for."""
        if self._is_awaited is None:
            self._is_awaited = not self.expect_100_continue and self._awaits is not None and self._awaits(self.scope)
        if self._whole is not None and not self._is_awaited:
            cycle, self._whole = self._whole, None
            if body := self._body_of_it():
                cycle.body += body
                cycle.message_event.set()
            self._start_asgi_task(cycle, self.app)

    def _await_more(self) -> None:
        if self._body_open:
            self._after(self.limits.window, self._end_window)
        elif self._head_open or self._head_bytes:
            self._await_head()

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

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None  # the timer of an idle connection looks at this when it rings, and is seldom made anew

    def _begin_idle(self) -> None:
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._look_idle)

    def _look_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            self.timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._look_idle)

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
        self._head_open = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.url:
            raise self._because(edge_rules.url_too_long(self.limits))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))
        self._header_bytes += len(name) + len(value) + 4  # ": " and the end of the line
        if self._header_bytes > self.limits.header_bytes or len(self.headers) > self.limits.headers:
            raise self._because(edge_rules.headers_too_large(self.limits))

    def on_headers_complete(self) -> None:
        upgrade = self.parser.should_upgrade()
        version, method = self.parser.get_http_version(), self.parser.get_method()
        try:
            self.expect_100_continue = edge_rules.check_head(version, method, self.url, self.headers, upgrade=upgrade)
        except Refusal as refusal:
            raise self._because(refusal) from None
        self._fill_scope(version, method)
        before, cycle = self.cycle, self._make_cycle(version)
        self.cycle = cycle
        if upgrade or getattr(self.app, "draining", False):
            cycle.keep_alive = False
        self._head_bytes = 0
        self._head_open, self._body_open = False, True
        self._body_bytes = 0
        self._paused = self.flow.read_paused
        self._after(None)
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        elif self._prompt is not None and not self._is_breath_taken and self._prompt(self.scope):
            self._is_breath_taken = True  # who sends many requests at once lets others have their turn
            self._whole, self._is_awaited = cycle, None
        else:
            self._start_asgi_task(cycle, self.app)

    def _fill_scope(self, version: str, method: bytes) -> None:
        raw, _, query = self.url.partition(b"?")
        path = raw.decode("ascii")
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # uvicorn types what it fills itself
        scope["method"] = method.decode("ascii")
        scope["http_version"] = version
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw if self.root_path else raw
        scope["query_string"] = query

    def _make_cycle(self, version: str) -> cycles.Cycle:
        return cycles.Cycle(
            self.loop,
            self.scope,
            self._door,
            self.flow,
            self.logger,
            self.on_response_complete,
            expects=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
        )

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._whole is not None:
            self._pieces.append(body)
        else:
            super().on_body(body)
            self._paused = self._paused or self.flow.read_paused

    def on_message_complete(self) -> None:
        self._body_open = False
        self._after(None)
        cycle, self._whole = self._whole, None
        if cycle is None:
            super().on_message_complete()
            if self.cycle.response_complete:  # an answer that did not want the body: only now is the connection idle
                self._begin_idle()
            return
        self._running = cycle
        body = self._body_of_it()
        if (answer := self._answer_to(cycle, body)) is not None:
            cycle.answer(answer)
            return
        cycle.body = body  # type: ignore[assignment]  # which nothing is added to any more
        cycle.more_body = False
        cycle.message_event.set()
        cycles.run_now(self.loop, cycle.run_asgi(self.app), self._hold)

    def _body_of_it(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _answer_to(self, cycle: cycles.Cycle, body: bytes) -> bytes | None:
        if self._at_once is None or not cycle.keep_alive or self.flow.write_paused:
            return None
        answer: bytes | None = self._at_once(self.scope, body)
        return answer

    def _hold(self, task: "asyncio.Task[None]") -> None:
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        if self._deaf:
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._begin_idle()
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
