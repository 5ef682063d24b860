"""A model's input arrays back as rows of JSON, for the example that a model version carries."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from models.signature import MISSING_TIME, Arrays, Field, Signature

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows_of(signature: Signature, arrays: Arrays, count: int) -> list[dict[str, Any]]:
    """The first rows; `rows.arrays_of` makes the same arrays of them."""
    columns = {
        column.name: [_value(column, value) for value in arrays[column.name][:count, 0].tolist()]
        for column in signature.inputs
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


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
