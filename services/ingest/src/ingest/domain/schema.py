"""Columns and their types, as the wire, the settings and the shards mean them."""

import enum
import re
from dataclasses import dataclass

from kit import errors

# What our own relations add to the user's columns.
RESERVED = "__"
LONGEST_NAME = 128
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ColumnType(enum.StrEnum):
    """Each is one type of Parquet: boolean, int64, double, UTF-8, date32, timestamp in microseconds and UTC."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    DATE = "date"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True)
class Column:
    name: str
    type: ColumnType


class BadColumnName(errors.Invalid): ...


def check_names(names: list[str], *, limit: int) -> None:
    """Refuse names that could not be told apart, written or read back.

    Raises:
        BadColumnName: the detail says which and why.
    """
    if len(names) > limit:
        raise BadColumnName(f"There are {len(names)} columns; {limit} are taken at most.")
    seen: set[str] = set()
    for place, name in enumerate(names, start=1):
        shown = name[:100]
        if not name.strip():
            raise BadColumnName(f"Column {place} has no name.")
        if len(name) > LONGEST_NAME or _CONTROL.search(name) or name.startswith(RESERVED):
            raise BadColumnName(
                f"Column {place} is named {shown!r}: names have at most {LONGEST_NAME} characters, none of them a "
                f"control character, and do not begin with {RESERVED!r}."
            )
        # Tables compare names without case.
        if name.lower() in seen:
            raise BadColumnName(f"There are two columns named {shown!r} (names are compared without case).")
        seen.add(name.lower())
