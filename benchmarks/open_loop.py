"""Requests at moments that were set beforehand, whatever becomes of those before: load as the outside makes it.

A client that waits for its answer before it asks again is slowed down by a slow server, and so hides what its users
feel. Here an arrival has its moment; what is late for whatever reason counts from that moment. Bounded in number, in
time and in connections: an arrival that finds none free waits for one, and is told apart from what was sent.

    result = await fire(Load("127.0.0.1", 8004, lambda: request("POST", "/v1/…", headers, body), rate=400, seconds=10))
    result.goodput, result.seconds(0.99), result.seconds(0.99, {503})
"""

import asyncio
import contextlib
import gc
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
CHUNKED, LAST_CHUNK = b"transfer-encoding: chunked", b"\r\n0\r\n\r\n"
GOOD = frozenset({200})
FRESH = 10.0
"""Seconds after which the bytes of a request are made anew: tokens grow old."""
UNANSWERED, BROKEN, UNSENT = 0, -1, -2
"""In place of a status: nothing within the patience; a connection that broke off or was refused; no connection free."""


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of an HTTP/1.1 request."""
    named = {"host": "benchmark", **headers, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


@dataclass(frozen=True)
class Load:
    """What is asked, and when."""

    host: str
    port: int
    made: Callable[[], bytes]
    """The bytes of one request."""
    rate: float
    """Arrivals a second."""
    seconds: float
    connections: int = 512
    """At most; they are opened as they are needed, and kept."""
    patience: float = 10.0
    """Seconds from its moment after which an answer is waited for no more."""
    is_random: bool = True
    """Whether arrivals come as strangers do (exponential gaps), or evenly."""
    seed: int = 1

    def moments(self) -> list[float]:
        """Seconds from the beginning, in order."""
        count = int(self.rate * self.seconds)
        if not self.is_random:
            return [number / self.rate for number in range(count)]
        chance = random.Random(self.seed)  # noqa: S311 - not for secrets
        return sorted(chance.uniform(0, self.seconds) for _ in range(count))


@dataclass(frozen=True)
class Shot:
    """What became of one arrival."""

    at: float
    """Its moment, in seconds from the beginning."""
    status: int
    took: float
    """Seconds from its moment to the whole answer."""


@dataclass
class Result:
    load: Load
    shots: list[Shot] = field(default_factory=list)
    latest: float = 0.0
    """Seconds that the generator itself was late with an arrival, at worst: a part of the latencies."""

    def statuses(self) -> Counter[int]:
        return Counter(shot.status for shot in self.shots)

    def of(self, statuses: Collection[int] = GOOD, *, since: float = 0.0) -> list[Shot]:
        return [shot for shot in self.shots if shot.status in statuses and shot.at >= since]

    @property
    def goodput(self) -> float:
        """Good answers for each second of load."""
        return len(self.of()) / self.load.seconds

    def seconds(self, quantile: float, statuses: Collection[int] = GOOD, *, since: float = 0.0) -> float:
        """That quantile of the latencies of those answers; not a number without any."""
        found = sorted(shot.took for shot in self.of(statuses, since=since))
        return found[min(int(quantile * len(found)), len(found) - 1)] if found else float("nan")


async def fire(load: Load) -> Result:
    """All arrivals of a load, until each is answered or given up."""
    firing = _Firing(load)
    was_on = gc.isenabled()
    gc.disable()  # its pauses would be the server's in the table
    try:
        return await firing.run()
    finally:
        firing.close()
        if was_on:
            gc.enable()


class _Firing:
    def __init__(self, load: Load) -> None:
        self._load = load
        self.result = Result(load)
        self._free: list[_Connection] = []
        self._queue: deque[float] = deque()
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._left = 0
        self._done = asyncio.Event()
        self._bytes, self._made_at = b"", float("-inf")
        self._loop = asyncio.get_running_loop()
        self.began = 0.0

    async def run(self) -> Result:
        moments = self._load.moments()
        self._left = len(moments)
        self.began = time.perf_counter()
        for moment in moments:
            late = self.now() - moment
            if late < 0:
                await asyncio.sleep(-late)
            elif self._left:
                await asyncio.sleep(0)  # answers are heard between two arrivals too
            self.result.latest = max(self.result.latest, self.now() - moment)
            self._arrive(moment)
            self._expire()
        while self._left:
            self._expire()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), 0.1)
        return self.result

    def now(self) -> float:
        return time.perf_counter() - self.began

    def _arrive(self, moment: float) -> None:
        if self._free:
            self._free.pop().send(self.bytes(), moment)
            return
        self._queue.append(moment)
        if len(self._all) + len(self._opening) < self._load.connections:
            task = self._loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def bytes(self) -> bytes:
        if self.now() - self._made_at > FRESH:
            self._bytes, self._made_at = self._load.made(), self.now()
        return self._bytes

    async def _open(self) -> None:
        try:
            await self._loop.create_connection(lambda: _Connection(self), self._load.host, self._load.port)
        except OSError:
            if self._queue:
                self.ended(self._queue.popleft(), BROKEN)

    def opened(self, connection: "_Connection") -> None:
        self._all.add(connection)
        self.freed(connection)

    def freed(self, connection: "_Connection") -> None:
        if self._queue:
            connection.send(self.bytes(), self._queue.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: "_Connection") -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)

    def ended(self, moment: float, status: int) -> None:
        self.result.shots.append(Shot(moment, status, self.now() - moment))
        self._left -= 1
        if not self._left:
            self._done.set()

    def _expire(self) -> None:
        late = self.now() - self._load.patience
        while self._queue and self._queue[0] < late:
            self.ended(self._queue.popleft(), UNSENT)
        for connection in [it for it in self._all if it.moment is not None and it.moment < late]:
            connection.give_up(UNANSWERED)

    def close(self) -> None:
        for task in self._opening:
            task.cancel()
        for connection in list(self._all):
            connection.abort()


def answered(heard: bytes) -> int | None:
    """The status of an answer once all of it was heard: by its length, or to its last chunk; None before."""
    end = heard.find(HEAD_END)
    if end < 0:
        return None
    head = heard[:end].lower()
    if CHUNKED in head:
        is_whole = heard.endswith(LAST_CHUNK)
    else:
        found = head.find(LENGTH)
        length = 0 if found < 0 else int(head[found + len(LENGTH) :].split(b"\r\n", 1)[0])
        is_whole = len(heard) >= end + len(HEAD_END) + length
    return int(head[9:12]) if is_whole else None


class _Connection(asyncio.Protocol):
    """One question at a time."""

    def __init__(self, firing: _Firing) -> None:
        self._firing = firing
        self.moment: float | None = None
        self._heard = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._firing.opened(self)

    def send(self, content: bytes, moment: float) -> None:
        self.moment = moment
        self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        self._heard = self._heard + data if self._heard else data
        if self.moment is None or (status := answered(self._heard)) is None:
            return
        closes = b"connection: close" in self._heard[: self._heard.find(HEAD_END)].lower()
        moment, self.moment, self._heard = self.moment, None, b""
        self._firing.ended(moment, status)
        if closes:
            self.abort()
        else:
            self._firing.freed(self)

    def give_up(self, status: int) -> None:
        if self.moment is not None:
            moment, self.moment = self.moment, None
            self._firing.ended(moment, status)
        self.abort()

    def abort(self) -> None:
        self._firing.lost(self)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._firing.lost(self)
        if self.moment is not None:
            moment, self.moment = self.moment, None
            self._firing.ended(moment, BROKEN)
