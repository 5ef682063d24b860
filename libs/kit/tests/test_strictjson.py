"""What is JSON for everybody, and what is read differently by two parsers."""

import pytest

from kit import strictjson
from kit.errors import Malformed


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        (b'{"a": [1, -2.5, true, null, "\\u00e9"]}', {"a": [1, -2.5, True, None, "é"]}),
        (b"0", 0),
        (b'"\xf0\x9f\x9a\x82"', "🚂"),
        (b'"\\ud83d\\ude82"', "🚂"),
        (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (b"1e-999", 0.0),
    ],
)
def test_json_is_read(raw: bytes, document: object) -> None:
    assert strictjson.loads(raw) == document


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_thirty_two_levels_are_enough(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(levels: int) -> bytes:
        inner = opening if opening == b"[" else opening + b"1"
        return opening * (levels - 1) + inner + closing * levels

    strictjson.loads(nested(32))
    for levels in (33, 500):
        with pytest.raises(Malformed, match="deeper than 32"):
            strictjson.loads(nested(levels))
    with pytest.raises(Malformed):
        strictjson.loads(nested(200_000))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"{} {}", id="two documents"),
        pytest.param(b"{'a': 1}", id="other quotes"),
        pytest.param(b"[1,]", id="a comma too many"),
        pytest.param(b"/* a */ 1", id="a comment"),
        pytest.param(b"NaN", id="not a number"),
        pytest.param(b'{"a": Infinity}', id="infinity"),
        pytest.param(b"-Infinity", id="minus infinity"),
        pytest.param(b"1e999", id="a number that overflows"),
        pytest.param(b"1" * 5000, id="a number of 5,000 digits"),
        pytest.param(b'{"a": 1, "a": 2}', id="a member twice"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="a member twice, written in two ways"),
        pytest.param(b'[[{"b": {"a": 1, "a": 1}}]]', id="a member twice, deep"),
        pytest.param(b'"\\u0000"', id="NUL"),
        pytest.param(b'{"\\u0000": 1}', id="NUL in a name"),
        pytest.param(b'"a\x00b"', id="a raw NUL"),
        pytest.param(b'"\\ud800"', id="a lone surrogate"),
        pytest.param(b'{"\\udc00": 1}', id="a lone surrogate in a name"),
        pytest.param(b'"\xed\xa0\x80"', id="a lone surrogate in bytes"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'"\xc0\x80"', id="UTF-8 that is longer than it must be"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param('{"a": 1}'.encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param('{"a": 1}'.encode("utf-32"), id="UTF-32"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
    ],
)
def test_what_parsers_disagree_about_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        strictjson.loads(raw)
    assert len(refused.value.detail) < 200


def test_a_member_given_twice_is_named_in_short() -> None:
    with pytest.raises(Malformed, match="'aaa") as refused:
        strictjson.loads(b'{"%s": 1, "%s": 2}' % (b"a" * 1000, b"a" * 1000))
    assert len(refused.value.detail) < 150
