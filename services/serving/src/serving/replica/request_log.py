"""The request log: some requests, by their id, with what was asked and answered, as Parquet in the work folder.

A request waits for nothing of it: a row is put into a buffer, and what the buffer has no room for is dropped and
counted. A thread writes files, each whole or not there. A process that is killed loses what it has not written yet.
"""

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import Counter

from kit.reconcile import first
from serving.domain.parquet import file_of
from serving.domain.request_rows import COLUMNS, Logged, by_place, is_sampled
from serving.replica.files import PRIVATE

log = logging.getLogger(__name__)
FOLDER = "requests"
ROWS = 10_000
"""That wait at most to be written."""
WRITTEN = Counter("trainyard_request_log_written_total", "Requests that the request log has on disk.")
DROPPED = Counter("trainyard_request_log_dropped_total", "Requests that it should have, and has not.", ["reason"])


class RequestFiles:
    """The files of one process: `project=…/deployment=…/hour=…/{time}-{random}.parquet`."""

    def __init__(
        self, folder: Path, *, largest: int, kept: timedelta, publish: Callable[[Path, Path], object] = os.replace
    ) -> None:
        """`largest` is the bytes of all of them. The oldest go first, and none is kept longer than `kept`."""
        self._folder = folder
        self._largest = largest
        self._kept = kept
        self._publish = publish

    def prepare(self) -> None:
        """Make the folder, for this user alone, and remove what a process before this one has not finished."""
        self._folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        for leftover in self._folder.rglob("*.part"):
            leftover.unlink(missing_ok=True)
        self.sweep()

    def write(self, rows: list[Logged]) -> None:
        """A file for each deployment and hour, whole and on disk when it can be seen.

        Raises:
            OSError: the disk takes no more.
        """
        for (project, deployment, hour), found in by_place(rows):
            folder = self._folder / f"project={project}" / f"deployment={deployment}" / f"hour={hour}"
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
            self._put(folder / f"{name}.parquet", file_of(COLUMNS, [row.row() for row in found]))
            WRITTEN.inc(len(found))

    def _put(self, path: Path, content: bytes) -> None:
        part = path.with_suffix(".part")
        try:
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._publish(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def sweep(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        oldest = time.time() - self._kept.total_seconds()
        found = sorted(((path.stat(), path) for path in self._folder.rglob("*.parquet")), key=lambda it: it[0].st_mtime)
        size = sum(stat.st_size for stat, _ in found)
        for stat, path in found:
            if stat.st_mtime >= oldest and size <= self._largest:
                break
            path.unlink(missing_ok=True)
            size -= stat.st_size
            with suppress(OSError):  # others are in it
                for folder in list(path.parents)[:3]:
                    folder.rmdir()


@dataclass(frozen=True)
class Bounds:
    share: float
    """Of all requests that are logged, 0 to 1."""
    request: int
    """Bytes of inputs, and of outputs, that are kept of one."""
    buffer: int
    """Bytes that wait at most to be written."""
    seconds: float
    """That they wait at most, but for a disk that is slow."""


class RequestLog:
    """Not for two threads."""

    def __init__(self, files: RequestFiles, bounds: Bounds) -> None:
        self.bounds = bounds
        self._files = files
        self._rows: list[Logged] = []
        self._bytes = 0
        self._writing = 0, 0  # rows and bytes that a thread has
        self._full = asyncio.Event()

    def takes(self, request_id: str) -> bool:
        """Whether this request is one of those that are logged."""
        return is_sampled(request_id, self.bounds.share)

    def put(self, row: Logged) -> None:
        """To be written soon, or else dropped."""
        rows, size = len(self._rows) + self._writing[0], self._bytes + self._writing[1] + row.size
        if rows >= ROWS or size > self.bounds.buffer:
            DROPPED.labels("full").inc()
            return
        self._rows.append(row)
        self._bytes += row.size
        if 2 * len(self._rows) >= ROWS or 2 * self._bytes >= self.bounds.buffer:
            self._full.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Write what there is, from time to time and when the buffer is half full; and at the end all of it."""
        await self._safely(self._files.prepare)
        while not stop.is_set():
            await first(self._full, stop, seconds=self.bounds.seconds)
            self._full.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what there is."""
        rows, self._rows = self._rows, []
        self._writing, self._bytes = (len(rows), self._bytes), 0
        try:
            if rows and not await self._safely(self._files.write, rows):
                DROPPED.labels("disk").inc(len(rows))
            await self._safely(self._files.sweep)
        finally:
            self._writing = 0, 0

    async def _safely(self, work: Callable[..., None], *given: Iterable[Logged]) -> bool:
        try:
            await asyncio.to_thread(work, *given)
        except Exception as error:  # noqa: BLE001 - whatever becomes of the log, the process goes on answering
            log.error("request log not written", extra={"error": f"{type(error).__name__}: {error}"})
            return False
        return True
