"""Answers in Arrow's stream format: one batch of records, a column for each output."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import errors
from serving.domain import flatbuffers as fb
from serving.domain.arrow import BINARY, BOOL, CONTINUES, FIXED_LIST, FLOAT, INT, MESSAGE, RECORDS, SCHEMA, UTF8
from serving.domain.tensors import BYTES, DTYPES, Tensor

VERSION = 4
"""Of the metadata: the fifth, as all libraries of these years write and read it."""
PRECISION: Mapping[int, int] = {2: 0, 4: 1, 8: 2}


class NotOneValueARow(errors.Invalid):
    """Arrow's columns have one value for each row, and not all of the model's outputs do."""


def write(tensors: Sequence[Tensor], said: Mapping[str, str]) -> bytes:
    """A whole stream; `said` becomes metadata of its schema.

    Raises:
        NotOneValueARow: the tensors differ in their first dimension.
    """
    lengths = {tensor.array.shape[:1] for tensor in tensors}
    if len(lengths) != 1 or () in lengths:
        raise NotOneValueARow("The model's outputs are no rows: ask for JSON, or by the inference protocol.")
    [(rows,)] = lengths
    nodes: list[tuple[int, int]] = []
    body, places = bytearray(), []
    for tensor in tensors:
        for depth in range(tensor.array.ndim):
            nodes.append((math.prod(tensor.array.shape[: depth + 1]), 0))
            places.append((len(body), 0))  # no validity: nothing is missing
        for part in _parts(tensor):
            places.append((len(body), len(part)))
            body += part + bytes(-len(part) % 8)
    pairs = [fb.table(fb.text(name), fb.text(value)) for name, value in said.items()]
    schema = fb.table(None, fb.vector([_field(tensor) for tensor in tensors]), fb.vector(pairs))
    records = fb.table(rows, fb.pairs(nodes), fb.pairs(places))
    end = MESSAGE.pack(CONTINUES, 0)
    return b"".join([_message(SCHEMA, schema, b""), _message(RECORDS, records, bytes(body)), end])


def _message(kind: int, header: fb.Put, body: bytes) -> bytes:
    metadata = fb.buffer_of(fb.table(VERSION, kind, header, len(body)))
    return MESSAGE.pack(CONTINUES, len(metadata)) + metadata + body


def _field(tensor: Tensor) -> fb.Put:
    """A column of values, or of lists in lists of them; nothing in it may be missing."""
    *names, last = (tensor.name, *("item" for _ in tensor.array.shape[1:]))
    field = fb.table(fb.text(last), None, *_type(tensor), None, fb.vector([]))
    for name, size in zip(reversed(names), reversed(tensor.array.shape), strict=False):
        field = fb.table(fb.text(name), None, FIXED_LIST, fb.table(size), None, fb.vector([field]))
    return field


def _type(tensor: Tensor) -> tuple[int, fb.Put]:
    if tensor.datatype == BYTES:
        return BINARY if _is_binary(tensor.array) else UTF8, fb.table()
    dtype = np.dtype(DTYPES[tensor.datatype])
    match dtype.kind:
        case "b":
            return BOOL, fb.table()
        case "f":
            return FLOAT, fb.table(PRECISION[dtype.itemsize])
        case _:
            return INT, fb.table(8 * dtype.itemsize, int(dtype.kind == "i"))


def _parts(tensor: Tensor) -> list[bytes]:
    """The buffers of a column's values."""
    flat = tensor.array.ravel()
    if tensor.datatype == "BOOL":
        return [np.packbits(flat.astype(bool), bitorder="little").tobytes()]
    if tensor.datatype != BYTES:
        return [np.ascontiguousarray(flat, DTYPES[tensor.datatype]).tobytes()]
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in flat]
    ends = np.cumsum([0, *map(len, texts)])
    return [struct.pack(f"<{len(ends)}i", *ends.tolist()), b"".join(texts)]


def _is_binary(array: NDArray[Any]) -> bool:
    return any(isinstance(value, bytes) for value in array.ravel())
