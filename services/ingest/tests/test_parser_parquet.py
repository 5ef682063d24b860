"""Parquet that comes from outside."""

import datetime
import decimal
import io
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.parser.session import is_no_room


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


def bomb() -> bytes:
    """Some hundred bytes that decode to 2 GB: one long string, 20,000 times, as run-length encoded places in a
    dictionary."""
    places = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
    return parquet({"s": places}, compression="zstd", compression_level=19)


def test_types_are_those_of_the_file(parse_bytes: Any) -> None:
    day, moment = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 1, tzinfo=datetime.UTC)
    data = parquet(
        {
            "a": pa.array([1, 2, 2, None], pa.uint16()),
            "b": ["x", "y", None, "z"],
            "c": pa.array([1.5, float("nan"), 2.0, 3.0], pa.float32()),
            "d": [day] * 4,
            "t": pa.array([moment] * 4, pa.timestamp("ns", "Europe/Berlin")),
            "m": [decimal.Decimal("1.25")] * 4,
            "e": pa.array(["u", "v", "u", "v"]).dictionary_encode(),
        }
    )
    parsed = parse_bytes(data, {"key": ["a"], "split": {"held_out": 0}}, format="parquet")
    types = [column.type.value for column in parsed.report.columns]
    assert types == ["integer", "string", "number", "date", "timestamp", "number", "string"]
    assert parsed.rejects() == [(2, "c", "type"), (4, "a", "not_null")]
    assert parsed.rows()[0] == (1, "x", 1.5, day, "2020-01-01 01:00:00+00", 1.25, "u")


def test_an_enforced_schema_casts_what_it_can(parse_bytes: Any) -> None:
    settings = {"columns": [{"name": "n", "type": "integer"}], "split": {"held_out": 0}}
    parsed = parse_bytes(parquet({"n": ["1", "x", "2.5"]}), settings, format="parquet")
    assert parsed.rows() == [(1,)]
    assert parsed.rejects() == [(2, "n", "type"), (3, "n", "type")]


def test_a_bomb_is_refused_by_what_it_decodes_to(parse_bytes: Any) -> None:
    data = bomb()
    assert len(data) < 1000
    assert parse_bytes(data, format="parquet").report.reason == "decoded-too-large"


REFUSED = {
    "nothing of Parquet": (b"a,b\n1,2\n", "not-parquet"),
    "too short to be Parquet": (b"PAR1", "not-parquet"),
    "only the frame of Parquet": (b"PAR1" + b"x" * 20 + b"PAR1", "not-parquet"),
    "a torn file": (b"PAR1" + parquet({"a": [1] * 1000})[200:], "not-parquet"),
    "a nested column": (parquet({"a": [[1, 2]]}), "bad-column-type"),
    "a column of bytes": (parquet({"a": [b"\x00"]}), "bad-column-type"),
    "a name of ours": (parquet({"__row": [1]}), "bad-header"),
    "no rows": (parquet({"a": pa.array([], pa.int64())}), "no-rows"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_at_all_is_refused(parse_bytes: Any, data: bytes, reason: str) -> None:
    report = parse_bytes(data, format="parquet").report
    assert (report.outcome, report.reason) == ("refused", reason)


def test_a_damaged_page_is_refused_without_a_word_of_our_folders(parse_bytes: Any, tmp_path: Any) -> None:
    # Not of texts, which are all read before.
    data = parquet({"n": list(range(10_000))}, compression="zstd").replace(b"\x28\xb5\x2f\xfd", b"\0\0\0\0")
    report = parse_bytes(data, format="parquet").report
    assert (report.outcome, report.reason) == ("refused", "unreadable"), report
    assert str(tmp_path) not in report.message


def test_the_engine_is_understood_when_it_says_that_the_disk_is_full() -> None:
    with duckdb.connect() as session, pytest.raises(duckdb.IOException) as caught:
        session.execute("COPY (SELECT range i FROM range(1000000)) TO '/dev/full' (FORMAT parquet, USE_TMP_FILE false)")
    assert is_no_room(caught.value)
    spilled = "failed to offload data block\nThis limit was set by the 'max_temp_directory_size' setting."
    assert is_no_room(duckdb.OutOfMemoryException(spilled))
    assert not is_no_room(duckdb.OutOfMemoryException("could not allocate block of size 256.0 KiB"))
