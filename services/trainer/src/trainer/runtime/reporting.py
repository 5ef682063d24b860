"""What a job tells while it works: logs, metrics and heartbeats, from a thread of its own, and the news it gets back.

Nothing here may stop the work: what cannot be sent is kept and sent again, the oldest lines are dropped when too many
wait, and only the word that the attempt is over ends it.
"""

import contextlib
import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

OVER = frozenset({401, 403, 404, 409, 410})
REFUSED = frozenset({400, 413, 415, 422})
"""What will not be taken however often it is sent: the job goes on without these lines."""
MAX_WAITING = 10_000
MAX_BATCH = 500
MAX_MESSAGE = 16_384
MAX_BYTES = 512 << 10
"""Of a batch: the trainer takes a MiB of JSON."""
TICK = timedelta(seconds=1)
FAREWELL = timedelta(seconds=5)

log = logging.getLogger(__name__)


class Reporter:
    """Sends what it is given to the attempt's URL; `over` is called once when the attempt is said to be over."""

    def __init__(
        self, client: httpx2.Client, *, beat: timedelta, over: Callable[[], None], trail: Path | None = None
    ) -> None:
        """`trail` is the file in which the beginning of each stage is written down."""
        self._client = client
        self._trail = trail
        self._beat = beat
        self._over = over
        self._said_over = False
        self._lock = threading.Lock()
        self._waiting: dict[str, list[dict[str, Any]]] = {"logs": [], "metrics": []}
        self._numbers = {"logs": 0, "metrics": 0}
        self._progress: dict[str, Any] = {"stage": "starting", "fraction": None}
        self._closing = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def log(self, level: str, message: str) -> None:
        """A line of the job's log."""
        self._add("logs", {"level": level, "message": _clean(message)[:MAX_MESSAGE]})

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """A point of a metric. JSON has no word for what is not a finite number."""
        if not math.isfinite(value):
            return
        self._add("metrics", {"name": name, "value": value, "step": step})

    def stage(self, stage: str) -> None:
        """What the job does now."""
        self._progress = {"stage": stage, "fraction": None}
        self._news.set()
        log.info(stage)
        if self._trail is not None:
            with contextlib.suppress(OSError), self._trail.open("a") as file:  # a full disk ends no job for this
                file.write(json.dumps({"stage": stage, "at": time.time_ns()}) + "\n")

    def close(self) -> None:
        """Send what is left, for some seconds at most."""
        self._closing.set()
        self._thread.join(FAREWELL.total_seconds())

    def _add(self, kind: str, entry: dict[str, Any]) -> None:
        with self._lock:
            self._numbers[kind] += 1
            waiting = self._waiting[kind]
            waiting.append({"number": self._numbers[kind], "at": datetime.now(UTC).isoformat(), **entry})
            del waiting[:-MAX_WAITING]

    def _run(self) -> None:
        since = self._beat  # the first heartbeat goes out at once
        pause = min(TICK, self._beat)
        while not self._closing.is_set():
            if since >= self._beat or self._news.is_set():
                self._news.clear()
                self._send("heartbeat", {"progress": self._progress})
                since = timedelta(0)
            self._flush()
            self._closing.wait(pause.total_seconds())
            since += pause
        tries = int(FAREWELL / TICK)
        while not self._flush() and tries and not self._said_over:
            tries -= 1
            threading.Event().wait(TICK.total_seconds())  # the process is about to end: nothing can wake us

    def _flush(self) -> bool:
        """Send all that waits; False when something stayed."""
        for kind, envelope in (("logs", "entries"), ("metrics", "points")):
            while True:
                with self._lock:
                    batch = _batch_of(self._waiting[kind])
                if not batch:
                    break
                if not self._send(kind, {envelope: batch}):
                    return False
                with self._lock:
                    last = batch[-1]["number"]
                    self._waiting[kind] = [entry for entry in self._waiting[kind] if entry["number"] > last]
        return True

    def _send(self, kind: str, body: dict[str, Any]) -> bool:
        try:
            response = self._client.post(f"/{kind}", json=body)
        except httpx2.HTTPError:
            return False
        except ValueError as exc:
            sys.stderr.write(f"{kind} cannot be sent: {exc}\n")
            return True  # nor ever will be
        if response.status_code in OVER or (kind == "heartbeat" and _says_stop(response)):
            self._end()
        if response.status_code in REFUSED:
            sys.stderr.write(f"{kind} refused: {response.text[:500]}\n")  # a log record would come back here
        return response.is_success or response.status_code in REFUSED

    def _end(self) -> None:
        if not self._said_over:
            self._said_over = True
            self._over()


def _clean(message: str) -> str:
    """Text as JSON may have it: a library may print anything."""
    return message.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _batch_of(waiting: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first that wait, as many as one request takes; one at least."""
    size = 0
    for index, entry in enumerate(waiting[:MAX_BATCH]):
        size += len(json.dumps(entry))
        if size > MAX_BYTES:
            return waiting[: max(index, 1)]
    return waiting[:MAX_BATCH]


def _says_stop(response: httpx2.Response) -> bool:
    try:
        return bool(response.is_success and response.json().get("stop"))
    except (json.JSONDecodeError, AttributeError):
        return False


class ReportedLogs(logging.Handler):
    """Gives every record to the reporter."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self._reporter.log(record.levelname.lower(), self.format(record))
