"""Pages of rows out of Parquet blobs: shards and rejects, which our own parser wrote."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from kit.blobs import BlobStore

BUDGET = 8 << 20
"""Bytes of values after which a page ends early: a thousand rows may be gigabytes."""
BATCH = 64
"""Rows decoded at one time, since few bytes of a file may be a long text many times over."""
AT_ONCE, STREAMS = 4, 8


@dataclass
class Rows:
    """Rows of a page, and whether it ended early: then the last row is there to say that there are more."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    cut: bool = False
    size: int = 0

    def fill(self, batch: pa.RecordBatch, limit: int) -> bool:
        """Take what still fits of the batch. Says whether there is room for more."""
        fitting = (BUDGET - self.size) * batch.num_rows // max(1, batch.nbytes)
        part = batch.slice(0, min(max(fitting, 2 - len(self.rows), 1), limit - len(self.rows)))
        self.rows += map(_plain, part.to_pylist())
        self.size += part.nbytes
        full, over = len(self.rows) >= limit, part.num_rows < batch.num_rows or self.size >= BUDGET
        self.cut = not full and over and len(self.rows) > 1
        return not full and not self.cut


class Pages:
    """Reads rows by their place, and no more of a blob than it must. Blobs are verified before they are read."""

    def __init__(self, store: BlobStore, work: Path) -> None:
        self._store = store
        self._work = work
        self._turns = asyncio.Semaphore(AT_ONCE)
        # Apart: who reads a whole shard takes his time, and users with their pages do not wait for that.
        self._streams = asyncio.Semaphore(STREAMS)

    async def rows(self, project: str, files: Sequence[tuple[str, int]], *, offset: int, limit: int) -> Rows:
        """At most `limit` rows from row `offset` on, of blobs given as (digest, rows) in order."""
        found = Rows()
        for digest, count in files:
            if offset >= count:
                offset -= count
            elif await self._read(found, project, digest, offset, limit):
                offset = 0
            else:
                break
        return found

    async def lines(self, project: str, digest: str, *, start: int, count: int) -> AsyncIterator[bytes]:
        """Rows of one blob as lines of JSON, with the values that `rows` gives, a few at one time."""
        async with self._streams:
            with tempfile.TemporaryDirectory(dir=self._work, prefix="page-") as folder:
                path = Path(folder) / "blob"
                await self._store.fetch(project, digest, path)
                lines = _lines(path, start, count)
                while some := await asyncio.to_thread(next, lines, b""):
                    yield some

    async def _read(self, found: Rows, project: str, digest: str, offset: int, limit: int) -> bool:
        async with self._turns:
            with tempfile.TemporaryDirectory(dir=self._work, prefix="page-") as folder:
                path = Path(folder) / "blob"
                await self._store.fetch(project, digest, path)
                return await asyncio.to_thread(_fill, found, path, offset, limit)


def _fill(found: Rows, path: Path, offset: int, limit: int) -> bool:
    """Add rows of one file. Says whether there is room for more."""
    with pq.ParquetFile(path, memory_map=True) as file:
        return all(found.fill(batch, limit) for batch in _batches(file, offset))


def _lines(path: Path, start: int, count: int) -> Iterator[bytes]:
    with pq.ParquetFile(path, memory_map=True) as file:
        for batch in _batches(file, start):
            part = batch.slice(0, count)
            count -= part.num_rows
            yield b"".join(orjson.dumps(_plain(row), option=orjson.OPT_APPEND_NEWLINE) for row in part.to_pylist())
            if count <= 0:
                return


def _batches(file: pq.ParquetFile, offset: int) -> Iterator[pa.RecordBatch]:
    """From row `offset` on, reading only the row groups that hold such rows."""
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if offset >= count:
            offset -= count
            continue
        for batch in file.iter_batches(BATCH, row_groups=[group], use_threads=False):
            if offset < batch.num_rows:
                yield batch.slice(offset)
            offset = max(0, offset - batch.num_rows)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _json(value) for name, value in row.items()}


def _json(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            return value
