"""Bytes that mean harm, through the whole service: exactly the right lines are refused, or the version is."""

import gzip
import io
from datetime import timedelta
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replicas_at_work import ReplicaOf

from ingest.clients.parser import ChildParser

VERSIONS = "/v1/datasets/planted/versions"
PARSER = ChildParser(memory=600 << 20, deadline=timedelta(minutes=1))
SETTINGS: dict[str, Any] = {
    "columns": [
        {"name": "id", "type": "integer"},
        {"name": "name", "type": "string"},
        {"name": "height", "type": "number"},
    ],
    "nulls": ["NA"],
    "key": ["id"],
    "split": {"held_out": 0.5},
    "checks": [{"column": "height", "check": "range", "min": 0, "max": 3}],
}
PLANTED = b"\n".join(
    [
        b"id,name,height",
        b"1,ann,1.7",
        b"2,bob,tall",  # 3: a wrong type
        b"3,carl",  # 4: ragged
        b"4,dora,1.6,extra",  # 5: ragged
        b'5,"emil\nof two lines",1.5',
        b"1,ann again,1.7",  # 8: the key a second time
        b"6,\xff\xfe,1.6",  # 9: not UTF-8
        b"NA,nobody,1.5",  # 10: no key
        b"7,fay,NaN",  # 11: no number
        b"8,gus,9",  # 12: out of range
        b'9,"ida',  # 13: the quote ends two lines later
        b'and more",NA',
        b"10,jo,1e0",
        b"",
    ]
)
REFUSED = [
    (3, "height", "type"),
    (4, None, "too_few_columns"),
    (5, None, "too_many_columns"),
    (8, "id", "duplicate_key"),
    (9, None, "encoding"),
    (10, "id", "not_null"),
    (11, "height", "type"),
    (12, "height", "range"),
]


async def ingested(
    client: httpx2.AsyncClient, replica_of: ReplicaOf, data: bytes, kind: str, encoding: str = "identity"
) -> dict[str, Any]:
    await client.post("/v1/datasets", json={"name": "planted", "settings": SETTINGS})
    headers = {"content-type": kind, "content-encoding": encoding}
    made = await client.post(VERSIONS, content=data, headers=headers)
    assert made.status_code == 202
    await replica_of(PARSER).run()
    version: dict[str, Any] = (await client.get(made.headers["location"])).json()
    return version


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_planted_file_is_refused_line_by_line(
    client: httpx2.AsyncClient, replica_of: ReplicaOf, encoding: str
) -> None:
    data = gzip.compress(PLANTED) if encoding == "gzip" else PLANTED
    version = await ingested(client, replica_of, data, "text/csv", encoding)
    assert version["status"]["phase"] == "ready", version
    assert (version["rows_in"], version["rows"], version["rejected"]) == (12, 4, 8)
    rejects = (await client.get(f"{VERSIONS}/1/rejects")).json()["items"]
    assert [(item["line"], item["column"], item["reason"]) for item in rejects] == REFUSED
    rows = (await client.get(f"{VERSIONS}/1/rows")).json()["items"]
    assert {row["id"]: (row["name"], row["height"]) for row in rows} == {
        1: ("ann", 1.7),
        5: ("emil\nof two lines", 1.5),
        9: ("ida\nand more", None),
        10: ("jo", 1.0),
    }


async def test_the_same_file_twice_makes_nothing_new(client: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    first = await ingested(client, replica_of, PLANTED, "text/csv")
    again = await ingested(client, replica_of, PLANTED, "text/csv")
    assert again == first
    # Parsed anew, in another process, it is what it was.
    await client.delete(f"{VERSIONS}/1")
    anew = await ingested(client, replica_of, PLANTED, "text/csv")
    assert (anew["version"], anew["digest"]) == (2, first["digest"])


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd", compression_level=19)
    return out.getvalue()


BOMB = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
ENDS: dict[str, tuple[bytes, str, str, str]] = {
    "a Parquet bomb": (parquet(id=BOMB, name=BOMB, height=BOMB), "application/vnd.apache.parquet", "identity", ""),
    "a gzip bomb": (gzip.compress(b"id,name,height\n" + b"1" * (300 << 20)), "text/csv", "gzip", ""),
    "no Parquet": (b"PAR1" * 100, "application/vnd.apache.parquet", "identity", "not-parquet"),
    "UTF-16": ("id,name,height\n1,a,2\n".encode("utf-16"), "text/csv", "identity", "not-utf-8"),
    "zeros": (b"\0" * 1000, "text/csv", "identity", "not-utf-8"),
    "a quote without end": (b'id,name,height\n1,"ann,1\n' + b"2,bob,1\n" * 100, "text/csv", "identity", "bad-quotes"),
    "gzip cut off": (gzip.compress(PLANTED)[:-9], "text/csv", "gzip", "bad-compression"),
    "NDJSON that is none": (b"id,name,height\n" * 100, "application/x-ndjson", "identity", "no-rows"),
}


@pytest.mark.parametrize(("data", "kind", "encoding", "reason"), ENDS.values(), ids=ENDS.keys())
async def test_what_cannot_become_rows_fails_with_its_reason(
    client: httpx2.AsyncClient, replica_of: ReplicaOf, data: bytes, kind: str, encoding: str, reason: str
) -> None:
    version = await ingested(client, replica_of, data, kind, encoding)
    assert version["status"]["phase"] == "failed"
    assert version["status"]["reason"] == (reason or "decoded-too-large")
    assert (version["digest"], version["rows"]) == (None, 0)


async def test_a_text_that_no_database_takes_is_still_told(client: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    strings = pa.array(["a\0b", "c"])
    data = parquet(id=strings, name=strings, height=pa.array([1.0, 2.0]))
    version = await ingested(client, replica_of, data, "application/vnd.apache.parquet")
    assert (version["status"]["phase"], version["status"]["reason"]) == ("failed", "no-rows")
    assert "'a\ufffdb' is not a whole number" in version["status"]["message"]


LINES = [
    b'{"id": 1, "name": "ann", "height": 1.7}',
    b'{"id": 2, "name": "bob", "height": NaN}',
    b'{"id": 3, "id": 4}',
    b'{"id": 5, "name": {"first": "x"}}',
    b"[1, 2]",
    b'{"id": 6, "name": "\\u0000"}',
    b'{"id": 7, "colour": "red"}',
    b'{"id": "8"}',
    b'{"id": 9, "name": "\xff"}',
    b'{"id": 10',
    b'{"id": 11, "name": "\\ud800"}',
    b'{"id": 1}',
    b'{"name": "nobody"}',
    b'{"id": 12}',
]


async def test_planted_lines_of_json_are_refused_one_by_one(client: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    version = await ingested(client, replica_of, b"\n".join(LINES), "application/x-ndjson")
    assert (version["rows"], version["rejected"]) == (2, 12), version
    rejects = (await client.get(f"{VERSIONS}/1/rejects")).json()["items"]
    assert [(item["line"], item["reason"]) for item in rejects] == [
        (2, "json"),
        (3, "duplicate_member"),
        (4, "type"),
        (5, "not_an_object"),
        (6, "nul"),
        (7, "unknown_column"),
        (8, "type"),
        (9, "encoding"),
        (10, "json"),
        (11, "json"),
        (12, "duplicate_key"),
        (13, "not_null"),
    ]
