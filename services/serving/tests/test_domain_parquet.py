"""Parquet files that others can read."""

import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.domain.parquet import Column, Kind, file_of

COLUMNS = (
    Column("at", Kind.TIME),
    Column("ü", Kind.TEXT),
    Column("count", Kind.INTEGER),
    Column("seconds", Kind.NUMBER),
)


def read(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_what_is_written_is_read_by_another_library(count: int) -> None:
    rows: list[list[Any]] = [[n * 1_000_001, "ä" * n, -(2**63) + n, n / 3] for n in range(count)]
    table = read(file_of(COLUMNS, rows))
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    assert [str(it.type) for it in table.schema] == ["timestamp[us, tz=UTC]", "string", "int64", "double"]
    assert [list(it.values())[1:] for it in table.to_pylist()] == [row[1:] for row in rows]
    assert table["at"].cast(pa.int64()).to_pylist() == [row[0] for row in rows]


def test_a_time_is_one() -> None:
    moment = datetime(2026, 11, 25, 13, 5, 7, 89, tzinfo=UTC)
    [row] = read(file_of(COLUMNS[:1], [[round(moment.timestamp() * 1_000_000)]])).to_pylist()
    assert row["at"] == moment


def test_text_that_is_none_and_an_empty_one_are_kept_as_far_as_they_can_be() -> None:
    texts = ["", "\0", "a\ud800b", "\u20ac" * 100_000]
    found = read(file_of(COLUMNS[1:2], [[it] for it in texts]))["ü"].to_pylist()
    assert found == ["", "\0", "a\\ud800b", "\u20ac" * 100_000]


@pytest.mark.parametrize("width", [1, 14, 15, 300])
def test_as_many_columns_as_there_are(width: int) -> None:
    columns = [Column(f"c{n}", Kind.INTEGER) for n in range(width)]
    table = read(file_of(columns, [list(range(width)), list(range(1, width + 1))]))
    assert table.num_columns == width
    assert table.column(width - 1).to_pylist() == [width - 1, width]


def test_it_is_checked_by_what_checks_pages() -> None:
    content = file_of(COLUMNS, [[0, "text", 7, 0.5]] * 100)
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    assert (metadata.num_rows, metadata.num_row_groups, metadata.created_by) == (100, 1, "trainyard")
    group = metadata.row_group(0)
    assert [group.column(n).compression for n in range(4)] == ["GZIP"] * 4
    assert sum(group.column(n).total_compressed_size for n in range(4)) == group.total_byte_size
    damaged = bytearray(content)
    damaged[group.column(1).data_page_offset + 40] ^= 0xFF
    with pytest.raises((OSError, pa.ArrowInvalid)):
        read(bytes(damaged))
