"""NDJSON, line by line."""

from typing import Any

READINGS: dict[str, Any] = {
    "columns": [
        {"name": "a", "type": "integer"},
        {"name": "b", "type": "string"},
        {"name": "c", "type": "number"},
        {"name": "t", "type": "timestamp"},
    ],
    "key": ["a"],
    "split": {"held_out": 0},
}
LINES = [
    b'{"a":1,"b":"x","c":1.5,"t":"2020-01-01T00:00:00Z"}',
    b'{"a":2,"c":NaN}',
    b'{"a":3,"b":"y","a":4}',
    b'{"a":3,"b":"\\"y","a":4}',
    b'{"a":5,"b":{"n":1}}',
    b"not json",
    b"",
    b"[1,2]",
    b'{"a":"6"}',
    b'{"a":7,"b":"s\\u0000"}',
    b'{"a":8,"zz":1}',
    b'{"a":9,"b":"a \\"quoted\\" one","c":3}',
    b'{"a":1,"b":"again"}',
    b'{"a":10,"b":"\xff"}',
    b'{"a":11,"b":"\\ud800"}',
    b'{"a":12,"c":1e999}',
    b'{"a":13,"t":"yesterday"}',
    b'{"a":14.0,"b":null}',
    b'{"b":"without a key"}',
    b'{"a":99999999999999999999}',
    b'{"a":15,"b":"' + b"y" * 5_000_000 + b'"}',
    b'{"a":true}',
    b'{"a":16,"b":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"a":17,"b":"torn"',
]
WRONG = [
    (2, None, "json"),
    (3, None, "duplicate_member"),
    (4, None, "duplicate_member"),
    (5, "b", "type"),
    (6, None, "json"),
    (8, None, "not_an_object"),
    (9, "a", "type"),
    (10, "b", "nul"),
    (11, "zz", "unknown_column"),
    (13, "a", "duplicate_key"),
    (14, None, "encoding"),
    (15, None, "json"),
    (16, None, "json"),
    (17, "t", "type"),
    (19, "a", "not_null"),
    (20, "a", "type"),
    (21, None, "line_too_long"),
    (22, "a", "type"),
    (23, None, "nested"),
    (24, None, "json"),
]


def test_a_planted_bad_file_is_told_line_by_line(parse_bytes: Any) -> None:
    parsed = parse_bytes(b"\n".join(LINES), READINGS, format="ndjson")
    found = parsed.rejects()
    # What is nested too deeply for one reader is no JSON to the next.
    assert [each for each in found if each[0] != 23] == [each for each in WRONG if each[0] != 23]
    assert parsed.report.rejected == len(WRONG)
    assert parsed.rows() == [
        (1, "x", 1.5, "2020-01-01 00:00:00+00"),
        (9, 'a "quoted" one', 3.0, None),
        (14, None, None, None),
    ]


def test_a_reject_shows_its_line(parse_bytes: Any) -> None:
    parsed = parse_bytes(b'{"a":1}\n\n{"a":1,"b":"two"}\r\n', READINGS, format="ndjson")
    assert parsed.rejects_whole() == [(3, "a", "duplicate_key", "The key came before.", '{"a":1,"b":"two"}')]


def test_types_are_those_of_the_values(parse_bytes: Any) -> None:
    data = (
        b'{"i":1,"n":1,"b":true,"s":"1","d":"2020-01-01","t":"2020-01-01T00:00:00Z","m":1,"o":null}\n'
        b'{"i":2,"n":1.5,"b":false,"s":"x","d":null,"m":"x","late":18446744073709551615}\n'
    )
    parsed = parse_bytes(data, format="ndjson")
    types = {column.name: column.type.value for column in parsed.report.columns}
    assert types == {
        "i": "integer",
        "n": "number",
        "b": "boolean",
        "s": "string",
        "d": "date",
        "t": "timestamp",
        "m": "string",
        "o": "string",
        "late": "number",
    }
    assert list(types) == ["i", "n", "b", "s", "d", "t", "m", "o", "late"]


def test_a_string_that_only_begins_like_dates_stays_a_string(parse_bytes: Any) -> None:
    data = b'{"d":"2020-01-01"}\n' * 20_000 + b'{"d":"soon"}\n'
    report = parse_bytes(data, format="ndjson").report
    assert [column.type.value for column in report.columns] == ["string"]
    assert (report.rows, report.rejected) == (20_001, 0)


def test_many_batches_keep_their_order_and_columns(parse_bytes: Any) -> None:
    even = ',"even":true'
    data = "".join(f'{{"n":{n}{even if n % 2 == 0 else ""}}}\n' for n in range(45_000))
    parsed = parse_bytes(data + '{"n":1,"n":2}\n', format="ndjson")
    assert parsed.rows() == [(n, True if n % 2 == 0 else None) for n in range(45_000)]
    assert parsed.rejects() == [(45_001, None, "duplicate_member")]


def test_coerce_turns_wrong_values_into_nulls_and_counts_them(parse_bytes: Any) -> None:
    data = b'{"a":1,"b":2,"c":"x"}\n{"a":2,"c":{"n":1}}\n{"a":"3"}\n'
    parsed = parse_bytes(data, {**READINGS, "policy": "coerce"}, format="ndjson")
    assert parsed.rows() == [(1, "2", None, None)]
    assert parsed.rejects() == [(2, "c", "type"), (3, "a", "not_null")]
    assert parsed.report.coerced == 2


def test_a_source_without_members_is_refused(parse_bytes: Any) -> None:
    assert parse_bytes(b"{}\n{}\n", format="ndjson").report.reason == "no-rows"
    assert parse_bytes(b"[1]\n", format="ndjson").report.reason == "no-rows"
    assert parse_bytes(b'{"a":1,"A":2}\n', format="ndjson").report.reason == "bad-member-name"
    many = b"{" + b",".join(b'"c%d":1' % n for n in range(2001)) + b"}\n"
    assert parse_bytes(many, format="ndjson").report.reason == "too-many-columns"


def test_long_lines_are_not_all_held_at_one_time(parse_bytes: Any) -> None:
    data = "".join(f'{{"n": {n}, "s": "{"x" * 1_000_000}"}}\n' for n in range(50))
    parsed = parse_bytes(data + '{"n": 1\n', format="ndjson")
    assert (parsed.report.rows, parsed.rejects()) == (50, [(51, None, "json")])
    assert len(list((parsed.out / "work" / "texts").iterdir())) == 2
