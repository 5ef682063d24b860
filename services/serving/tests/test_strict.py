"""JSON without a member twice: the same is refused as by the parser that looks at every member."""

import orjson
import pytest

from kit import errors, strictjson
from serving.api import strict

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
