"""Strict JSON at the speed of the parser: a member that is given twice is refused, without a look at each."""

from typing import Any

import orjson

from kit import errors

LARGE = 1 << 10
"""Bytes above which a look at the rows is cheaper than to write them again."""


def loads(content: bytes) -> Any:
    """One JSON document, in which nothing is given twice.

    The parser keeps the last of two members of one name. What it dropped is missing when the document is written again:
    one colon at least, since each member has one, and no other text gains or loses any.

    Raises:
        errors.Malformed: it is none, or says NaN, or is no Unicode, or gives a member twice.
    """
    try:
        document = orjson.loads(content)
        if len(content) > LARGE and _is_plain(content, document):
            return document
        written = orjson.dumps(document)
    except orjson.JSONDecodeError as exc:
        raise errors.Malformed(f"The body is not valid JSON: {exc.msg} at byte {exc.pos}.") from None
    except orjson.JSONEncodeError:
        raise errors.Malformed("The JSON is nested too deeply.") from None
    if content.count(b":") + _escaped_colons(content) != written.count(b":"):
        raise errors.Malformed("A member of the JSON is given twice.")
    return document


def _is_plain(content: bytes, document: Any) -> bool:
    """Whether rows that are not nested have all the colons and brackets that there are, and so none is given twice."""
    if type(document) is not dict:
        return False
    members, lists = len(document), 0
    for value in document.values():
        kinds = set(map(type, value)) if type(value) is list else {type(value)}
        lists += type(value) is list
        if kinds == {dict} and type(value) is list:
            members += sum(map(len, value))
        elif kinds == {list} and type(value) is list:
            lists += len(value)
        elif not kinds.isdisjoint({dict, list}):
            return False
    return content.count(b":") == members and content.count(b"[") == lists


def _escaped_colons(content: bytes) -> int:
    r"""Colons that are written as `\u003a`: the parser makes plain ones of them."""
    if b"\\" not in content:
        return 0
    escapes = content.replace(rb"\\", b"")  # an escaped backslash begins no other escape
    return escapes.count(rb"\u003a") + escapes.count(rb"\u003A")
