"""Checks, policies, splits, shards, compression and the profile, on CSV through the real engine."""

import gzip
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ingest.domain.splits import side_of

PEOPLE: dict[str, Any] = {
    "columns": [
        {"name": "id", "type": "integer"},
        {"name": "name", "type": "string"},
        {"name": "height", "type": "number"},
    ],
    "key": ["id"],
    "split": {"held_out": 0},
}
HEADER = "id,name,height\n"
ROWS = HEADER + "1,ann,1.5\n2,bob,7\n3,carl,\n4,ee,3\n5,ann,4\n6,{x},-2\n"


def checked(*checks: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {**PEOPLE, "checks": list(checks), **settings}


CHECKS: dict[str, tuple[dict[str, Any], list[tuple[int, str | None, str]]]] = {
    "not null": ({"column": "height", "check": "not_null"}, [(4, "height", "not_null")]),
    "unique": ({"column": "name", "check": "unique"}, [(6, "name", "unique")]),
    "a range with both ends": (
        {"column": "height", "check": "range", "min": 0, "max": 4.0},
        [(3, "height", "range"), (7, "height", "range")],
    ),
    "a range with one end": ({"column": "id", "check": "range", "min": 6}, [(n, "id", "range") for n in range(2, 7)]),
    "a pattern for the whole value": (
        {"column": "name", "check": "regex", "pattern": "[a-z{}]{2,3}"},
        [(4, "name", "regex")],
    ),
    "one of some values": (
        {"column": "name", "check": "enum", "values": ["ann", "bob", "it's", "{x}"]},
        [(4, "name", "enum"), (5, "name", "enum")],
    ),
    "an expression, which null passes": (
        {"check": "expression", "sql": "height > 2 OR lower(name) = 'ann'"},
        [(7, None, "expression")],
    ),
}


@pytest.mark.parametrize(("check", "rejects"), CHECKS.values(), ids=CHECKS.keys())
def test_a_check_refuses_the_rows_that_break_it(parse_bytes: Any, check: Any, rejects: Any) -> None:
    assert parse_bytes(ROWS, checked(check)).rejects() == rejects


def test_checks_of_times_and_truths_compare_as_such(parse_bytes: Any) -> None:
    settings = {
        "columns": [{"name": "t", "type": "timestamp"}, {"name": "b", "type": "boolean"}],
        "split": {"held_out": 0},
        "checks": [
            {"column": "t", "check": "range", "min": "2020-01-01T12:00:00Z"},
            {"column": "b", "check": "enum", "values": [True]},
        ],
    }
    parsed = parse_bytes("t,b\n2020-01-01T13:00:00+02:00,true\n2020-01-01T12:00:00,true\n2021-01-01,false\n", settings)
    assert parsed.rejects() == [(2, "t", "range"), (4, "b", "enum")]


BAD_CHECKS: dict[str, dict[str, Any]] = {
    "a text for a number": {"column": "id", "check": "range", "min": "a"},
    "a truth for a number": {"column": "id", "check": "range", "min": True},
    "a number for a text": {"column": "name", "check": "enum", "values": [1]},
    "a pattern for a number": {"column": "id", "check": "regex", "pattern": "1"},
    "a pattern that is none": {"column": "name", "check": "regex", "pattern": "("},
    "no SQL": {"check": "expression", "sql": "id +"},
    "chance": {"check": "expression", "sql": "random() > 0.5"},
    "the clock": {"check": "expression", "sql": "now() > '2020-01-01'"},
    "the local clock": {"check": "expression", "sql": "current_localtimestamp() > TIMESTAMP '2020-01-01'"},
    "the time of day": {"check": "expression", "sql": "current_localtime() > TIME '12:00'"},
    "the clock without brackets": {"check": "expression", "sql": "current_date > DATE '2020-01-01'"},
    "a query": {"check": "expression", "sql": "id IN (SELECT 1)"},
    "a file": {"check": "expression", "sql": "(SELECT content FROM read_text('work/source')) IS NULL"},
    "a from": {"check": "expression", "sql": "1 FROM read_text('work/source')"},
    "a second column": {"check": "expression", "sql": "id > 1, id > 2"},
    "a second statement": {"check": "expression", "sql": "id > 1; DROP TABLE found"},
    "brackets that do not match": {"check": "expression", "sql": "id > 1) OR (1 = 1"},
    "an aggregate": {"check": "expression", "sql": "count(id) > 1"},
    "a window": {"check": "expression", "sql": "row_number() OVER () > 1"},
    "a star": {"check": "expression", "sql": "COLUMNS(*) IS NULL"},
    "the environment": {"check": "expression", "sql": "getenv('HOME') = 'x'"},
    "an unknown column": {"check": "expression", "sql": "nobody > 1"},
    "one of our columns": {"check": "expression", "sql": "__row > 1"},
    "another table's column": {"check": "expression", "sql": "found.reason > 1"},
    "types that do not go together": {"check": "expression", "sql": "name + 1 > 2"},
}


@pytest.mark.parametrize("check", BAD_CHECKS.values(), ids=BAD_CHECKS.keys())
def test_a_check_that_makes_no_sense_fails_the_version_and_says_so(parse_bytes: Any, check: Any) -> None:
    report = parse_bytes(ROWS, checked(check)).report
    assert (report.outcome, report.reason) == ("refused", "bad-check")


def test_an_expression_that_fails_on_a_value_is_the_versions_failure(parse_bytes: Any) -> None:
    report = parse_bytes(ROWS, checked({"check": "expression", "sql": "CAST(name AS INTEGER) > 1"})).report
    assert (report.outcome, report.reason) == ("refused", "bad-check")


def test_policy_fail_names_the_first_line_and_makes_nothing(parse_bytes: Any) -> None:
    parsed = parse_bytes(ROWS, checked({"column": "height", "check": "range", "min": 0}, policy="fail"))
    report = parsed.report
    assert (report.outcome, report.reason) == ("refused", "rows-refused")
    assert report.message == "1 of 6 rows are not acceptable. Line 7, height: The value is not between 0 and any."
    assert report.shards == []
    assert parsed.rejects() == [(7, "height", "range")]


def test_policy_coerce_nulls_what_null_cures_and_refuses_the_rest(parse_bytes: Any) -> None:
    data = HEADER + "1,ann,tall\ntwo,bob,1\n3,zoe,1\n4,ann,900\n5,ann\n6,ann,2\n6,ann,3\n"
    checks: list[dict[str, Any]] = [
        {"column": "height", "check": "range", "max": 100},
        {"column": "name", "check": "enum", "values": ["ann", "bob"]},
    ]
    parsed = parse_bytes(data, checked(*checks, policy="coerce"))
    assert parsed.rows() == [(1, "ann", None), (3, None, 1.0), (4, "ann", None), (6, "ann", 2.0)]
    assert parsed.rejects() == [
        (3, "id", "not_null"),
        (6, None, "too_few_columns"),
        (8, "id", "duplicate_key"),
    ]
    assert parsed.report.coerced == 4


def test_the_first_of_equal_keys_that_is_acceptable_stays(parse_bytes: Any) -> None:
    data = HEADER + "1,ann,bad\n1,bob,2\n1,carl,3\n2,dora,4\n"
    parsed = parse_bytes(data, PEOPLE)
    assert parsed.rejects() == [(2, "height", "type"), (4, "id", "duplicate_key")]
    assert parsed.rows() == [(1, "bob", 2.0), (2, "dora", 4.0)]


def test_a_version_of_nothing_but_rejects_is_none(parse_bytes: Any) -> None:
    parsed = parse_bytes(HEADER + "x,a,1\n", PEOPLE)
    assert parsed.report.reason == "no-rows"
    assert parsed.rejects() == [(2, "id", "type")]


TYPED: dict[str, Any] = {
    "columns": [
        {"name": "i", "type": "integer"},
        {"name": "n", "type": "number"},
        {"name": "s", "type": "string"},
        {"name": "b", "type": "boolean"},
        {"name": "d", "type": "date"},
        {"name": "t", "type": "timestamp"},
    ]
}


def test_the_engine_splits_as_the_documented_function_does(parse_bytes: Any) -> None:
    texts = ["", "a|b", "é", "3:x", "-", "日本"]
    lines = [
        f"{n - 500},{n / 7!r},{texts[n % 6]},{'true' if n % 2 else 'false'},"
        f"2020-01-{n % 28 + 1:02},{datetime.fromtimestamp(n * 1e6 / 3, UTC).isoformat()}"
        if n % 11
        else f"{n},,{texts[n % 6]},,,"
        for n in range(1000)
    ]
    settings = {
        **TYPED,
        "nulls": ["", "-"],
        "split": {"held_out": 0.3, "seed": 7, "by": ["t", "n", "s", "b", "d", "i"]},
    }
    parsed = parse_bytes("i,n,s,b,d,t\n" + "\n".join(lines) + "\n", settings)
    for side in ("train", "held_out"):
        rows = parsed.rows(side)
        assert rows
        for i, n, s, b, d, t in rows:
            moment = None if t is None else datetime.fromisoformat(t)
            assert side_of([moment, n, s, b, d, i], held_out=0.3, seed=7) == side


def test_no_group_is_on_both_sides(parse_bytes: Any) -> None:
    data = "day,n\n" + "".join(f"2020-01-{n % 28 + 1:02},{n}\n" for n in range(5000))
    parsed = parse_bytes(data, {"split": {"by": ["day"], "held_out": 0.3}})
    train, held_out = ({row[0] for row in parsed.rows(side)} for side in ("train", "held_out"))
    assert train
    assert held_out
    assert not train & held_out
    assert len(train | held_out) == 28


def test_the_seed_changes_the_split_and_nothing_else_does(parse_bytes: Any) -> None:
    data = "k,v\n" + "".join(f"{n},{n * n % 97}\n" for n in range(2000))
    backwards = "v,k\n" + "".join(f"{n * n % 97},{n}\n" for n in reversed(range(2000)))
    settings: dict[str, Any] = {"key": ["k"], "split": {"held_out": 0.2, "seed": 1}}
    held = {row[0] for row in parse_bytes(data, settings).rows("held_out")}
    assert {row[1] for row in parse_bytes(backwards, settings).rows("held_out")} == held
    assert 300 < len(held) < 500
    other = parse_bytes(data, {"key": ["k"], "split": {"held_out": 0.2, "seed": 2}})
    assert {row[0] for row in other.rows("held_out")} != held


def test_without_a_key_the_whole_row_decides(parse_bytes: Any) -> None:
    data = "a,b\n" + "1,2\n" * 50 + "3,4\n" * 50
    parsed = parse_bytes(data, {"split": {"held_out": 0.5}})
    assert {*parsed.rows("train")} & {*parsed.rows("held_out")} == set()


@pytest.mark.parametrize("type_", ["date", "timestamp", "string"])
def test_a_cut_holds_out_what_comes_at_or_after_it(parse_bytes: Any, type_: str) -> None:
    settings = {
        "columns": [{"name": "d", "type": type_}, {"name": "n", "type": "integer"}],
        "split": {"time": "d", "cut": "2013-11-01"},
    }
    parsed = parse_bytes("d,n\n2013-10-31,1\n2013-11-01,2\n2013-12-01,3\n,4\n", settings)
    assert [row[1] for row in parsed.rows("train")] == [1]
    assert [row[1] for row in parsed.rows("held_out")] == [2, 3]
    assert parsed.rejects() == [(5, "d", "split")]


def test_a_cut_of_a_number_is_refused(parse_bytes: Any) -> None:
    assert parse_bytes("n\n1\n", {"split": {"time": "n", "cut": "2020-01-01"}}).report.reason == "bad-split"


def test_settings_that_speak_of_unknown_columns_are_refused(parse_bytes: Any) -> None:
    assert parse_bytes("n\n1\n", {"key": ["m"]}).report.reason == "unknown-column"


def test_the_same_bytes_and_settings_give_the_same_shards(parse_bytes: Any) -> None:
    data = "k,x,s\n" + "".join(f"{n},{n / 3!r},{hashlib.md5(str(n).encode()).hexdigest()}\n" for n in range(300_000))
    bad = data + "oops,1,2\n"
    settings = {
        "columns": [
            {"name": "k", "type": "integer"},
            {"name": "x", "type": "number"},
            {"name": "s", "type": "string"},
        ],
        "key": ["k"],
    }
    first, second = parse_bytes(bad, settings), parse_bytes(gzip.compress(bad.encode()), settings, compression="gzip")
    assert [shard.split for shard in first.report.shards].count("train") == 1
    assert first.shard_bytes() == second.shard_bytes()
    assert first.report.splits == second.report.splits
    # With too little memory the engine spills; the bytes stay.
    third = parse_bytes(bad, settings, memory=48 << 20)
    assert third.shard_bytes() == first.shard_bytes()


def test_many_rows_become_many_shards_in_order(parse_bytes: Any) -> None:
    data = "k\n" + "\n".join(map(str, range(600_000))) + "\n"
    parsed = parse_bytes(data)
    assert len(parsed.report.shards) == 3
    assert parsed.rows() == [(n,) for n in range(600_000)]


COMPRESSED = {
    "gzip": ("gzip", gzip.compress(ROWS.encode())),
    "gzip in two members": ("gzip", gzip.compress(ROWS[:20].encode()) + gzip.compress(ROWS[20:].encode())),
    "zstd": ("zstd", pa.compress(ROWS.encode(), codec="zstd", asbytes=True)),
}


@pytest.mark.parametrize(("compression", "data"), COMPRESSED.values(), ids=COMPRESSED.keys())
def test_compressed_sources_are_unpacked(parse_bytes: Any, compression: str, data: bytes) -> None:
    assert parse_bytes(data, PEOPLE, compression=compression).rows() == parse_bytes(ROWS, PEOPLE).rows()


BROKEN = {
    "no gzip": ("gzip", b"hello", "bad-compression"),
    "gzip cut off": ("gzip", gzip.compress(ROWS.encode() * 100)[:-20], "bad-compression"),
    "gzip with something behind": ("gzip", gzip.compress(ROWS.encode()) + b"more", "bad-compression"),
    "no zstd": ("zstd", b"hello", "bad-compression"),
    "a gzip bomb": ("gzip", gzip.compress(b"0" * (64 << 20)), "decoded-too-large"),
    "a zstd bomb": ("zstd", pa.compress(b"0" * (64 << 20), codec="zstd", asbytes=True), "decoded-too-large"),
}


@pytest.mark.parametrize(("compression", "data", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_and_bloated_compression_is_refused(
    parse_bytes: Any, compression: str, data: bytes, reason: str
) -> None:
    assert parse_bytes(data, compression=compression, ratio_floor=1 << 20).report.reason == reason


def test_a_source_that_needs_more_memory_than_allowed_is_refused(parse_bytes: Any) -> None:
    data = "k\n" + "".join(f"{n:0200}\n" for n in range(100_000))
    assert parse_bytes(data, {"key": ["k"]}, memory=8 << 20).report.reason == "out-of-memory"


def test_the_profile_says_what_the_rows_are(parse_bytes: Any) -> None:
    data = "n,s,d,t,b\n" + "".join(
        f"{n},{'ab'[n % 2]},2020-01-{n % 10 + 1:02},2020-01-01T00:00:{n % 60:02},{'true' if n % 4 else 'false'}\n"
        for n in range(100)
    )
    parsed = parse_bytes(data + ",,,,\n")
    profile = json.loads((parsed.out / parsed.report.profile).read_bytes())
    by_name = {column["name"]: column for column in profile["columns"]}
    assert (profile["rows"], profile["exact"]) == (101, True)
    number = by_name["n"]
    assert (number["count"], number["nulls"], number["distinct"], number["min"], number["max"]) == (100, 1, 100, 0, 99)
    assert number["mean"] == 49.5
    assert number["quantiles"]["0.5"] == 49
    assert number["histogram"]["counts"] == [5] * 20
    assert by_name["s"]["top"] == [{"value": "a", "count": 50}, {"value": "b", "count": 50}]
    assert by_name["b"]["top"] == [{"value": "true", "count": 75}, {"value": "false", "count": 25}]
    assert (by_name["d"]["min"], by_name["d"]["max"]) == ("2020-01-01", "2020-01-10")
    assert by_name["t"]["quantiles"]["0.99"] == "2020-01-01T00:00:58Z"
    assert sum(by_name["t"]["histogram"]["counts"]) == 100


def test_the_profile_of_odd_columns_is_json_too(parse_bytes: Any) -> None:
    settings = {
        "columns": [
            {"name": "huge", "type": "number"},
            {"name": "one", "type": "integer"},
            {"name": "none", "type": "number"},
            {"name": "far", "type": "date"},
            {"name": "last", "type": "timestamp"},
        ],
        "split": {"held_out": 0},
    }
    parsed = parse_bytes(
        "huge,one,none,far,last\n1.7e308,5,,0001-01-01,0001-01-01T00:00:00Z\n-1.7e308,5,,2020-01-01,\n"
        "1e308,5,,9999-12-31,9999-12-31T23:59:59.999999Z\n",
        settings,
    )
    profile = json.loads((parsed.out / parsed.report.profile).read_bytes())
    huge, one, none, far, last = profile["columns"]
    assert huge["stddev"] is None
    assert sum(huge["histogram"]["counts"]) == 3
    assert one["histogram"] == {"edges": [5.0, 5.0], "counts": [3]}
    assert (none["min"], none["nulls"]) == (None, 3)
    assert (far["min"], far["max"]) == ("0001-01-01", "9999-12-31")
    assert last["histogram"]["edges"][-1] == last["max"] == "9999-12-31T23:59:59.999999Z"


@pytest.mark.parametrize("kind", ["date", "timestamp"])
@pytest.mark.parametrize("value", ["0044-03-15 (BC)", "10000-01-01", "infinity", "epoch", "294246-01-01"])
def test_moments_that_no_json_can_say_are_refused(parse_bytes: Any, kind: str, value: str) -> None:
    settings = {"columns": [{"name": "t", "type": kind}], "split": {"held_out": 0}}
    parsed = parse_bytes(f"t\n2020-01-01\n{value}\n", settings)
    assert parsed.rejects() == [(3, "t", "type")]


@pytest.mark.parametrize("first", ["1", "1.5"])
def test_a_code_far_behind_makes_a_column_of_texts(parse_bytes: Any, first: str) -> None:
    parsed = parse_bytes("n\n" + f"{first}\n" * 11_000 + "007\n")
    assert parsed.report.columns[0].type.value == "string"
    assert parsed.rows()[-1] == ("007",)
    given = {"columns": [{"name": "n", "type": "number"}], "split": {"held_out": 0}}
    assert parse_bytes(f"n\n{first}\n007\n", given).rows()[-1] == (7.0,)


def test_as_many_columns_as_are_allowed_fit_into_the_memory(parse_bytes: Any) -> None:
    kinds = ["7", "1.5", "word", "true", "2020-01-01", "2020-01-01T00:00:00Z", ""]
    row = ",".join(kinds[place % len(kinds)] for place in range(500))
    header = ",".join(f"c{place}" for place in range(500))
    parsed = parse_bytes(f"{header}\n" + f"{row}\n" * 2_500 + "1\n", {"split": {"held_out": 0.5, "by": ["c0"]}})
    assert (parsed.report.outcome, parsed.report.rows, parsed.report.rejected) == ("ready", 2_500, 1)
    profile = json.loads((parsed.out / parsed.report.profile).read_bytes())
    assert [column["name"] for column in profile["columns"]] == header.split(",")
    assert parse_bytes(f"{header},one\n{row},1\n").report.reason == "bad-header"


@pytest.mark.parametrize("cut", ["2020-01-02", "2020-01-02 00:00", "2020-01-02T01:00:00.0+01:00"])
def test_every_cut_that_is_taken_can_be_used(parse_bytes: Any, cut: str) -> None:
    parsed = parse_bytes("t\n2020-01-01T23:59:59Z\n2020-01-02T00:00:00Z\n", {"split": {"time": "t", "cut": cut}})
    assert parsed.report.splits == {"train": 1, "held_out": 1}
