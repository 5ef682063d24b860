"""The socket on which the program of a bundle speaks to its warden: bounded, and nothing that comes is believed."""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from trainer.domain import programs
from trainer.domain.programs import Checkpoint, Metrics, NotFinite, Progress

if TYPE_CHECKING:
    from trainer.runtime.reporting import Reporter

CHUNK = 1 << 16
CONNECTIONS = 128
MAX_POINTS = 1_000_000
MAX_LAST = 1000
BAD = 100
"""Messages that are none, after which nobody is listened to."""
SELDOM = 1.0
"""Seconds between two lines of the log about checkpoints."""


class Hearing:
    """Listens, and passes on."""

    def __init__(self, path: str, selector: selectors.BaseSelector, fail: Callable[[str, str], None]) -> None:
        """`fail` is told what a program must not say."""
        self.path = path
        self.last: dict[str, float] = {}
        """Each metric's newest value."""
        self.reporter: Reporter | None = None
        self._selector = selector
        self._fail = fail
        self._points = self._bad = 0
        self._noted = 0.0
        self._open: dict[socket.socket, bytearray] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(path)
        self._listener.listen(CONNECTIONS)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Hear what was sent, and nothing more."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(self._listener.accept()[0])
        for connection in list(self._open):
            while connection in self._open and self._read(connection):
                pass
            self._drop(connection)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection = self._listener.accept()[0]
            if len(self._open) >= CONNECTIONS:
                connection.close()
            else:
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._open[connection] = bytearray()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> bool:
        """False: there is nothing more for now."""
        try:
            chunk = connection.recv(CHUNK)
        except OSError:
            return False
        waiting = self._open[connection]
        waiting += chunk
        *lines, rest = waiting.split(b"\n")
        self._open[connection] = bytearray(rest)
        for line in lines:
            self._hear(bytes(line))
        if not chunk or len(rest) > programs.MAX_MESSAGE or self._bad > BAD:
            self._drop(connection)
        return bool(chunk)

    def _drop(self, connection: socket.socket) -> None:
        if self._open.pop(connection, None) is not None:
            self._selector.unregister(connection)
            connection.close()

    def _hear(self, line: bytes) -> None:
        assert self.reporter is not None  # nothing is read before
        try:
            if len(line) > programs.MAX_MESSAGE:
                raise ValueError("too long")
            said = programs.message_of(line)
        except NotFinite as exc:
            self._fail("non-finite", str(exc))
            return
        except ValueError as exc:
            self._bad += 1
            if self._bad == 1:
                self.reporter.log("warning", f"The program said what is no message, and it was dropped: {exc}.")
            return
        match said:
            case Metrics(step=step, values=values):
                self._note(step, values)
            case Progress(fraction=fraction):
                self.reporter.progress("training", fraction)
            case Checkpoint(step=step):
                if time.monotonic() > self._noted + SELDOM:
                    self._noted = time.monotonic()
                    self.reporter.log("info", f"The checkpoint of step {step} is written.")

    def _note(self, step: int, values: Mapping[str, float]) -> None:
        assert self.reporter is not None
        for name, value in values.items():
            if name in self.last or len(self.last) < MAX_LAST:
                self.last[name] = value
            self._points += 1
            if self._points <= MAX_POINTS:
                self.reporter.metric(name, value, step)
            elif self._points == MAX_POINTS + 1:
                self.reporter.log("warning", f"More than {MAX_POINTS} values of metrics: what follows is not kept.")
