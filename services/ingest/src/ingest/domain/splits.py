"""On which side of the split a row is: a pure function of its values and the seed, the same everywhere.

The text of a row is `seed`, then for each column of `by`, in that order, `|` and either `-` for a missing value or
`<bytes>:<text>`, where the text is that of `text_of` and `<bytes>` its length in UTF-8. A row is held out when the
first 13 hexadecimal digits (52 bits) of the SHA-256 of that text are below those of the share. The parser says the
same in SQL (ingest.parser.splits); a test holds the two together.
"""

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Literal

DIGITS = 13
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Value = bool | int | float | str | date | datetime | None
Side = Literal["train", "held_out"]
TRAIN: Side = "train"
HELD_OUT: Side = "held_out"


def side_of(values: list[Value], *, held_out: float, seed: int) -> Side:
    """The side of the row that has these values in the columns of `by`."""
    text = "|".join([str(seed), *map(_part, values)])
    digits = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return HELD_OUT if digits < threshold(held_out) else TRAIN


def threshold(held_out: float) -> str:
    """The share as digits that can be compared with those of a hash."""
    return f"{int(held_out * 16**DIGITS):0{DIGITS}x}"


def text_of(value: bool | float | str | date | datetime) -> str:
    """The one text of a value: `true`, `42`, `0.5` (shortest that reads back), ISO dates, UTC microseconds of 1970."""
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return str((value - EPOCH) // timedelta(microseconds=1))
        case date():
            return value.isoformat()
        case float():
            return repr(value)
        case _:
            return str(value)


def _part(value: Value) -> str:
    if value is None:
        return "-"
    text = text_of(value)
    return f"{len(text.encode())}:{text}"
