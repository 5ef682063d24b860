"""CSV, good and bad, through the real engine."""

from typing import Any

import pytest

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


def test_a_planted_bad_file_is_told_line_by_line(parse_bytes: Any) -> None:
    lines = [
        b"1,ann,1.7",
        b"two,bob,1.8",
        b'3,"carl\nsays ""hi""",1.9',
        b"4,dora,tall",
        b"5,emil,nan",
        b"6,fay,-inf",
        b"7.5,gus,1.6",
        b"1,ann again,1.7",
        b",nobody,1.5",
        b"8,hugo",
        b"9,ida,1.6,extra",
        b'10,"jo"hn,1.6',
        b"11,\xff\xfe,1.6",
        b"12,kim,1e2",
        b"",
        b"x,y,z",
    ]
    parsed = parse_bytes(HEADER.encode() + b"\n".join(lines) + b"\n", PEOPLE)

    assert parsed.rejects() == [
        (3, "id", "type"),
        (6, "height", "type"),
        (7, "height", "type"),
        (8, "height", "type"),
        (9, "id", "type"),
        (10, "id", "duplicate_key"),
        (11, "id", "not_null"),
        (12, None, "too_few_columns"),
        (13, None, "too_many_columns"),
        (14, None, "quotes"),
        (15, None, "encoding"),
        (18, "height", "type"),
        (18, "id", "type"),
    ]
    assert parsed.rows() == [(1, "ann", 1.7), (3, 'carl\nsays "hi"', 1.9), (12, "kim", 100.0)]
    report = parsed.report
    assert (report.rows_in, report.rows, report.rejected) == (15, 3, 12)


def test_a_reject_shows_what_is_wrong_and_the_beginning_of_its_line(parse_bytes: Any) -> None:
    parsed = parse_bytes(HEADER + "1,ann," + "9" * 500 + "x\n2,bob,1\n", PEOPLE)
    [(line, column, reason, detail, raw)] = parsed.rejects_whole()
    assert (line, column, reason) == (2, "height", "type")
    assert detail == "'" + "9" * 60 + "' is not a finite number."
    assert raw == ("1,ann," + "9" * 500)[:200]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CR LF"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "byte order mark"])
def test_lines_are_right_whatever_ends_them(parse_bytes: Any, end: str, mark: str) -> None:
    lines = [HEADER.strip(), "1,a,1", "2,b", "", "", '3,"x', 'y",1', "z,c,4", '4,"d"e,1', "", "q,f,1"]
    parsed = parse_bytes(mark + end.join(lines) + end, PEOPLE)
    assert parsed.rejects() == [
        (3, None, "too_few_columns"),
        (8, "id", "type"),
        (9, None, "quotes"),
        (11, "id", "type"),
    ]


def test_quotes_in_the_middle_of_a_value_are_part_of_it(parse_bytes: Any) -> None:
    parsed = parse_bytes(HEADER + '1,5" pipe,1\n2,b\nx,9"z,3\n4,"q""r\ns",4\ny,"t",5\n', PEOPLE)
    assert parsed.rejects() == [(3, None, "too_few_columns"), (4, "id", "type"), (7, "id", "type")]
    assert parsed.rows() == [(1, '5" pipe', 1.0), (4, 'q"r\ns', 4.0)]


def test_mixed_line_ends_are_read_as_one_kind(parse_bytes: Any) -> None:
    parsed = parse_bytes("id,name,height\r\n1,a,1\n2,b,2\r\nx,c,3\n", PEOPLE)
    assert parsed.rejects() == [(4, "id", "type")]
    assert len(parsed.rows()) == 2


def test_lines_that_end_as_on_old_macs_are_lines(parse_bytes: Any) -> None:
    parsed = parse_bytes("id,name,height\r1,a,1\rx,b,2\r", PEOPLE)
    assert parsed.rejects() == [(3, "id", "type")]


def test_a_record_across_many_chunks_keeps_its_line(parse_bytes: Any) -> None:
    # 20 MB: three of the chunks in which lines are looked for, with quoted line ends at every place.
    body = "".join(f'{n},"a\nb{"c" * 50}",1\n' for n in range(300_000))
    parsed = parse_bytes(HEADER + body + "bad,x,1\n", PEOPLE)
    assert parsed.rejects() == [(600_002, "id", "type")]


def test_an_empty_line_of_a_single_column_is_a_missing_value(parse_bytes: Any) -> None:
    settings = {**PEOPLE, "columns": [{"name": "id", "type": "integer"}]}
    parsed = parse_bytes("id\n1\n\n3\nx\n", settings)
    assert parsed.rejects() == [(3, "id", "not_null"), (5, "id", "type")]


def test_a_value_larger_than_a_cell_may_be_is_refused_alone(parse_bytes: Any) -> None:
    parsed = parse_bytes(HEADER + f"1,{'y' * 2_000_000},1\n2,ok,2\n3,{'z' * 5_000_000},1\nx,ok,2\n", PEOPLE)
    assert parsed.rejects() == [(2, "name", "type"), (4, None, "line_too_long"), (5, "id", "type")]
    assert parsed.rows() == [(2, "ok", 2.0)]


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing but space": (b" \n", "empty"),
    "a header twice": (b"a,a\n1,2\n", "bad-header"),
    "a header twice but for case": (b"a,A\n1,2\n", "bad-header"),
    "a header without a name": (b"a,,c\n1,2,3\n", "bad-header"),
    "a header that takes our names": (b"__row,b\n1,2\n", "bad-header"),
    "a header with a quote that does not end": (b'"a,b\n1,2\n', "bad-header"),
    "an empty first line": (b"\na,b\n1,2\n", "bad-header"),
    "2001 columns": (",".join(f"c{n}" for n in range(2001)).encode() + b"\n", "bad-header"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "not-utf-8"),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), "not-utf-8"),
    "Latin-1 in the header": ("é,b\n1,2\n".encode("latin-1"), "not-utf-8"),
    "a NUL far down": (b"a,b\n" + b"1,2\n" * 1000 + b"1,\0\n", "nul"),
    "no rows": (b"a,b\n", "no-rows"),
    "a carriage return in the middle of a line": (b"a,b\n1,x\ry\n3,4\n", "unreadable"),
    "a quote that never ends": (b'a,b\n1,"2\n3,4\n', "bad-quotes"),
    "a quote that never ends, after rows": (b'a,b\n1,2\n1,"2\n' + b"3,4\n" * 2_000_000, "bad-quotes"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_at_all_is_refused(parse_bytes: Any, data: bytes, reason: str) -> None:
    report = parse_bytes(data).report
    assert (report.outcome, report.reason) == ("refused", reason)
    assert report.message


def test_the_columns_of_an_enforced_schema_are_all_and_only_those(parse_bytes: Any) -> None:
    assert parse_bytes("id,name\n1,a\n", PEOPLE).report.reason == "missing-column"
    assert parse_bytes("id,name,height,x\n1,a,1,2\n", PEOPLE).report.reason == "unknown-column"
    assert parse_bytes("height,id,name\n1.5,1,a\n", PEOPLE).rows() == [(1, "a", 1.5)]


def test_types_are_guessed_from_all_rows(parse_bytes: Any) -> None:
    parsed = parse_bytes(
        "int,num,bool,date,time,code,text,none\n"
        "1,1.5,true,2020-02-29,2020-01-01T12:00:00Z,007,a,\n"
        "-2,2,FALSE,2020-01-02,2020-01-01 12:00:00.5,012,1,\n"
    )
    types = {column.name: column.type.value for column in parsed.report.columns}
    assert types == {
        "int": "integer",
        "num": "number",
        "bool": "boolean",
        "date": "date",
        "time": "timestamp",
        "code": "string",
        "text": "string",
        "none": "string",
    }


def test_a_guess_is_widened_by_a_late_value(parse_bytes: Any) -> None:
    many = "1,1,2020-01-01,true\n" * 20_000
    parsed = parse_bytes("a,b,c,d\n" + many + "1.5,x,2020-01-01T12:00:00Z,maybe\n")
    types = {column.name: column.type.value for column in parsed.report.columns}
    assert types == {"a": "number", "b": "string", "c": "timestamp", "d": "string"}
    assert parsed.report.rejected == 0


def test_numbers_that_are_none_do_not_make_a_column_text(parse_bytes: Any) -> None:
    parsed = parse_bytes("a\n" + "1.5\n" * 3 + "NaN\ninf\n")
    assert [column.type.value for column in parsed.report.columns] == ["number"]
    assert parsed.rejects() == [(5, "a", "type"), (6, "a", "type")]


def test_null_strings_are_those_of_the_settings(parse_bytes: Any) -> None:
    data = "a,b\nNA,x\n1,NA\n2,\n"
    none = {"nulls": [], "split": {"held_out": 0}}
    assert parse_bytes(data, {"nulls": ["NA"], "split": {"held_out": 0}}).rows() == [(None, "x"), (1, None), (2, "")]
    assert parse_bytes(data, none).rows() == [("NA", "x"), ("1", "NA"), ("2", "")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(parse_bytes: Any, delimiter: str) -> None:
    data = f'a{delimiter}"b,;|"{delimiter}c\n1{delimiter}2{delimiter}3\n'
    parsed = parse_bytes(data.replace('"b,;|"', '"b' + ",;|\t".replace(delimiter, "")[0] + '"'))
    assert parsed.rows() == [(1, 2, 3)]


def test_more_rejects_than_are_kept_are_still_counted(parse_bytes: Any) -> None:
    parsed = parse_bytes(HEADER + "x,a,1\n" * 50 + "2,b\n" * 50 + "1,c,1\n", PEOPLE, rejects=10)
    assert parsed.report.rejected == 100
    assert len(parsed.rejects()) == 10


def test_a_number_column_takes_no_code_that_only_looks_like_one(parse_bytes: Any) -> None:
    parsed = parse_bytes(HEADER + "1,a,0x10\n2,b,1_000\n3,c,5\n4,d, 6 \n", PEOPLE)
    assert parsed.rejects() == [(2, "height", "type"), (3, "height", "type")]
    assert parsed.rows() == [(3, "c", 5.0), (4, "d", 6.0)]


def test_a_date_is_not_cut_out_of_a_moment(parse_bytes: Any) -> None:
    settings = {"columns": [{"name": "day", "type": "date"}], "split": {"held_out": 0}}
    parsed = parse_bytes("day\n2020-01-01\n2020-01-01T12:00:00\n2020-02-30\ninfinity\nepoch\n", settings)
    assert [line for line, _, _ in parsed.rejects()] == [3, 4, 5, 6]


def test_an_integer_is_not_rounded_out_of_a_number(parse_bytes: Any) -> None:
    settings = {"columns": [{"name": "n", "type": "integer"}], "split": {"held_out": 0}}
    parsed = parse_bytes("n\n39.02\n39.0\n1e3\n9223372036854775807\n9223372036854775808\n", settings)
    assert parsed.rows() == [(39,), (1000,), (9223372036854775807,)]
