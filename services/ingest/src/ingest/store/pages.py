"""Pages of rows out of Parquet blobs: shards and rejects, which our own parser wrote."""

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kit.blobs import BlobStore


class Pages:
    """Reads rows by their place, and no more of a blob than it must. Blobs are verified before they are read."""

    def __init__(self, store: BlobStore, work: Path) -> None:
        self._store = store
        self._work = work

    async def rows(
        self, project: str, files: Sequence[tuple[str, int]], *, offset: int, limit: int
    ) -> list[dict[str, Any]]:
        """`limit` rows from row `offset` on, of blobs given as (digest, rows) in order."""
        found: list[dict[str, Any]] = []
        for digest, count in files:
            if offset >= count:
                offset -= count
                continue
            found += await self._read(project, digest, offset, limit - len(found))
            offset = 0
            if len(found) >= limit:
                break
        return found

    async def _read(self, project: str, digest: str, offset: int, limit: int) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory(dir=self._work) as folder:
            path = Path(folder) / "blob"
            await self._store.fetch(project, digest, path)
            return await asyncio.to_thread(_slice, path, offset, limit)


def _slice(path: Path, offset: int, limit: int) -> list[dict[str, Any]]:
    """Rows of one file, reading only the row groups that hold them."""
    found: list[dict[str, Any]] = []
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if offset < count and len(found) < limit:
                table: pa.Table = file.read_row_group(group, use_threads=False)
                found += map(_plain, table.slice(offset, limit - len(found)).to_pylist())
            offset = max(0, offset - count)
    return found


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
