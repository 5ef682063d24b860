"""JSON without a member twice: the same is refused as by the parser that looks at every member."""

import orjson
import pytest

from kit import errors, strictjson
from serving.api import answering, strict

GOOD = [
    b'{"rows": [{"at": "2013-01-01T00:00:00Z", "a:b": ":"}, {"at": "::"}], "n": 1e3}',
    b'{"a": "\\u003a", "\\u003A": {"a": "\\\\u003a", "b": "\\\\\\u003a"}}',
    b'{"a": "\\":", "b": "\\\\", "c": "\\\\\\\\u003a"}',
    b"[[], {}, 1, 123456789012345678901234567890, null]",
    '{"ü": "\\ud83d\\ude00:", "": {}}'.encode(),
]
TWICE = [
    b'{"a": 1, "a": 1}',
    b'{"a": "\\u003a", "a": 1}',
    b'{"a": 1, "\\u0061": "\\u003a"}',
    b'{"rows": [{"x": "\\\\u003a", "y": {"b": ":", "b": "::"}}]}',
    b'{"a": {"b": 1}, "c": "\\u003a\\u003A", "a": 2}',
]


@pytest.mark.parametrize("content", GOOD)
def test_what_is_given_once_is_read(content: bytes) -> None:
    assert strict.loads(content) == strictjson.loads(content) == orjson.loads(content)


@pytest.mark.parametrize("content", TWICE)
def test_what_is_given_twice_is_refused(content: bytes) -> None:
    with pytest.raises(errors.Malformed, match="given twice"):
        strictjson.loads(content)
    with pytest.raises(errors.Malformed, match="given twice"):
        strict.loads(content)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": NaN}', b'"\\ud800"', b"\xff", b"[" * 500 + b"]" * 500])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(errors.Malformed):
        strict.loads(content)


LONG = b", ".join([b'{"x": [1], "y": 2}'] * 100)
PLAIN = b", ".join([b'{"x": 1, "y": "b"}'] * 100)
ARRAYS = b", ".join([b"[1, 2.5]"] * 300)


@pytest.mark.parametrize(
    "content",
    [
        b'{"rows": [%b]}' % PLAIN,
        b'{"rows": [%b, {"a:b": ":"}]}' % PLAIN,
        b'{"rows": [%b]}' % LONG,
        b'{"columns": ["x", "y"], "rows": [%b]}' % ARRAYS,
        b'{"columns": ["[", "y"], "rows": [%b, [[3]], 5, {}]}' % ARRAYS,
        b'{"rows": [%b], "more": {"x": 1}}' % ARRAYS,
        b"[%b]" % ARRAYS,
    ],
)
def test_long_documents_are_read_too(content: bytes) -> None:
    assert len(content) > strict.LARGE
    assert strict.loads(content) == orjson.loads(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"rows": [%b, {"x": 1, "x": 2}]}' % PLAIN,
        b'{"rows": [%b, {"x": 1, "x": 2}, "a"]}' % PLAIN,
        b'{"rows": [%b], "rows": [%b]}' % (ARRAYS, ARRAYS),
        b'{"rows": [%b], "a": {"x": 1, "x": 2}}' % ARRAYS,
        b'{"rows": [%b, {"x": 1, "x": {}}]}' % LONG,
        b'{"rows": [%b%b]}' % (b"[" * 500, b"]" * 500) + b" " * 1024,
    ],
)
def test_long_documents_are_refused_too(content: bytes) -> None:
    assert len(content) > strict.LARGE
    with pytest.raises(errors.Malformed):
        strict.loads(content)


@pytest.mark.parametrize(
    ("content", "known"),
    [
        (b'{"rows":[[1,2.5e3]]}', True),
        (b'{"columns":["true"],"rows": [[1]] }', True),
        (b'{"rows":[[true]]}', False),
        (b'{"rows":[[false]]}', False),
        (b'{"rows":[[null]]}', False),
        (b'{"rows":[["1"]]}', False),
        (b'{"rows":[[true]],"columns":["rows"]}', False),
        (b'{"rows":[[true]],"columns":["a"]}', False),
        (b'{"rows" :[[1]]}', False),
        (b'rows":[[1]]', False),
        (b"[[1]]", False),
    ],
)
def test_that_rows_are_numbers_is_seen_from_the_text_behind_their_name(content: bytes, known: bool) -> None:
    assert answering.are_numbers(content) is known
