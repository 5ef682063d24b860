"""JSON as the RFC means it, and nothing that two parsers could read in two ways.

Refused: NaN and infinities, numbers that overflow, duplicate members, NUL and lone surrogates in strings, other
encodings than UTF-8, and documents nested deeper than 32 levels.
"""

import json
from typing import NoReturn

import orjson

from kit import errors

DEPTH = 32


def loads(raw: bytes) -> object:
    """Read one JSON document.

    Raises:
        errors.Malformed: it is not JSON, or not the strict kind; the detail says what and, where known, where.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise errors.Malformed(f"The body is not valid JSON: {exc.msg} at byte {exc.pos}.") from None
    except RecursionError:  # pragma: no cover - orjson counts depth itself; another build might not
        raise errors.Malformed("The JSON is nested too deeply.") from None
    # Depth before anything recursive. orjson cannot see duplicates, json cannot see the rest: both are asked.
    _walk(document, DEPTH)
    json.loads(raw, object_pairs_hook=_once, parse_constant=_refuse)
    return document


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise errors.Malformed(f"The member {twice[:100]!r} is given twice.")
    return members


def _refuse(constant: str) -> NoReturn:  # pragma: no cover - orjson has refused it before
    raise errors.Malformed(f"{constant} is not JSON.")


def _walk(value: object, depth: int) -> None:
    match value:
        case str():
            if "\0" in value:
                raise errors.Malformed("A string of the JSON holds a NUL character.")
        case dict():
            if depth == 0:
                raise errors.Malformed(f"The JSON is nested deeper than {DEPTH} levels.")
            for name, member in value.items():
                _walk(name, 0)
                _walk(member, depth - 1)
        case list():
            if depth == 0:
                raise errors.Malformed(f"The JSON is nested deeper than {DEPTH} levels.")
            for item in value:
                _walk(item, depth - 1)
