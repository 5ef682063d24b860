"""Pages of rows, however wide the rows and however many the files."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.store.pages import BUDGET, Pages, Rows
from kit import errors
from kit.blobs import BlobStore
from kit.testing_objects import Objects


class Shelf:
    """Pages over files that a test puts there."""

    def __init__(self, store: BlobStore, work: Path) -> None:
        self._store = store
        self.files: list[tuple[str, int]] = []
        self.pages = Pages(store, work)
        self.work = work

    async def put(self, columns: dict[str, Any], **options: Any) -> None:
        table = pa.table(columns)
        out = io.BytesIO()
        pq.write_table(table, out, **options)

        async def chunks() -> Any:
            yield out.getvalue()

        blob = await self._store.publish("blue", await self._store.stage(chunks(), 1 << 30))
        self.files.append((blob.digest, table.num_rows))

    async def read(self, offset: int, limit: int) -> Rows:
        return await self.pages.rows("blue", self.files, offset=offset, limit=limit)


@pytest.fixture
def shelf(store: BlobStore, tmp_path: Path) -> Shelf:
    return Shelf(store, tmp_path)


PLACES = [(0, 3), (0, 1000), (95, 10), (99, 1), (100, 5), (149, 2), (130, 100), (150, 5), (999, 5), (63, 3), (64, 128)]


@pytest.mark.parametrize(("offset", "limit"), PLACES)
async def test_rows_are_read_by_their_place(shelf: Shelf, offset: int, limit: int) -> None:
    await shelf.put({"n": list(range(100))}, row_group_size=30)
    await shelf.put({"n": list(range(100, 150))}, row_group_size=7)
    found = await shelf.read(offset, limit)
    assert [row["n"] for row in found.rows] == list(range(150))[offset : offset + limit]
    assert not found.cut
    assert [path for path in shelf.work.iterdir() if path.name.startswith("page-")] == []


async def test_a_page_of_wide_rows_ends_early_and_none_is_lost(shelf: Shelf) -> None:
    texts = [f"{number:06}" * (BUDGET // 6 // 10) for number in range(50)]
    await shelf.put({"s": texts})
    await shelf.put({"s": texts})
    found: list[str] = []
    pages = 0
    while len(found) < 100:
        page = await shelf.read(len(found), 101)
        shown = page.rows[:-1] if page.cut else page.rows
        assert sum(len(row["s"]) for row in shown) <= 2 * BUDGET
        found += [row["s"][:6] for row in shown]
        pages += 1
    assert found == [f"{number:06}" for number in range(50)] * 2
    assert pages > 5


async def test_one_row_larger_than_a_page_is_shown(shelf: Shelf) -> None:
    await shelf.put({"s": ["a" * 2 * BUDGET, "b" * 2 * BUDGET]})
    first = await shelf.read(0, 101)
    assert (len(first.rows), first.cut) == (2, False) or (len(first.rows), first.cut) == (2, True)
    assert first.rows[0]["s"][0] == "a"


async def test_few_bytes_that_are_many_do_not_fill_the_memory(shelf: Shelf) -> None:
    places = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
    await shelf.put({"s": places}, compression="zstd", store_schema=False)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for offset in (0, 19_000):
            found = await shelf.read(offset, 1001)
            assert found.cut
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20
    assert pa.default_memory_pool().max_memory() - before < 300 << 20


async def test_damaged_bytes_are_no_rows(shelf: Shelf, objects_url: str) -> None:
    await shelf.put({"n": [1]})
    [key] = Objects(objects_url).keys("blobs/")
    Objects(objects_url).damage(key)
    with pytest.raises(errors.Corrupt):
        await shelf.read(0, 1)
