"""Strict JSON at the speed of the parser: a member that is given twice is refused, without a look at each."""

from typing import Any

import orjson

from kit import errors


def loads(content: bytes) -> Any:
    """One JSON document, in which nothing is given twice.

    The parser keeps the last of two members of one name. What it dropped is missing when the document is written again:
    one colon at least, since each member has one, and no other text gains or loses any.

    Raises:
        errors.Malformed: it is none, or says NaN, or is no Unicode, or gives a member twice.
    """
    try:
        document = orjson.loads(content)
        written = orjson.dumps(document)
    except orjson.JSONDecodeError as exc:
        raise errors.Malformed(f"The body is not valid JSON: {exc.msg} at byte {exc.pos}.") from None
    except orjson.JSONEncodeError:
        raise errors.Malformed("The JSON is nested too deeply.") from None
    if content.count(b":") + _escaped_colons(content) != written.count(b":"):
        raise errors.Malformed("A member of the JSON is given twice.")
    return document


def _escaped_colons(content: bytes) -> int:
    r"""Colons that are written as `\u003a`: the parser makes plain ones of them."""
    if b"\\" not in content:
        return 0
    escapes = content.replace(rb"\\", b"")  # an escaped backslash begins no other escape
    return escapes.count(rb"\u003a") + escapes.count(rb"\u003A")
