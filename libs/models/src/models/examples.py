"""A model's input arrays back as rows of JSON, for the example that a model version carries."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from models.signature import MISSING_TIME, Arrays, Field, Signature

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows_of(signature: Signature, arrays: Arrays, count: int, *, max_bytes: int | None = None) -> list[dict[str, Any]]:
    """The first rows; `rows.arrays_of` makes the same arrays of them.

    With `max_bytes`, as many of them as go into so much JSON; without those that hold a NUL, which no database takes.
    """
    columns = {
        column.name: [_value(column, value) for value in arrays[column.name][:count, 0].tolist()]
        for column in signature.inputs
    }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows if max_bytes is None else _fitting(rows, max_bytes)


def _fitting(rows: list[dict[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
    kept, left = [], max_bytes
    for row in rows:
        said = json.dumps(row)
        if len(said) <= left and r"\u0000" not in said:
            kept.append(row)
            left -= len(said)
    return kept


def _value(column: Field, value: Any) -> Any:
    match column.type:
        case "string":
            return None if value == "" and column.nullable else value
        case "timestamp":
            return None if value == MISSING_TIME else (EPOCH + timedelta(microseconds=value)).isoformat()
        case _ if np.isnan(value):
            return None
        case "integer":
            return int(value)
        case "boolean":
            return bool(value)
    return value
