"""What a replica and its runner child say to each other: a JSON header and raw arrays, framed by their lengths.

to the child    {"id", "op": "load", "model", "path", "digest", "format", "signature", "architecture", "example"}
                {"id", "op": "unload", "model"}
                {"id", "op": "predict", "model", "columns": [{"name", "kind", "shape", "size"}]} + the columns' bytes
from the child  {"id", "begun": true}, when its turn has come; then
                {"id", "ok": true, "seconds"?, "values"?, "scores"?, "tensors"?} + the bytes of scores or tensors
                {"id", "ok": false, "kind": "absent" | "memory" | "corrupt" | "failed" | "invalid", "detail", "places"?}
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.signature import Arrays, Prediction
from models.tensor_signature import NOTHING

HEAD = struct.Struct("<II")
LENGTH = struct.Struct("<I")
LARGEST = 256 << 20
TEXTS, BYTES = "str", "bytes"
"""Kinds of columns that are no numbers."""


class FrameInvalid(Exception):
    """What came is no frame."""


def pack(header: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """One message."""
    text = orjson.dumps(header)
    return b"".join([HEAD.pack(len(text), sum(map(len, parts))), text, *parts])


def sizes(head: bytes) -> tuple[int, int]:
    """The lengths of header and body.

    Raises:
        FrameInvalid: they are more than anything of ours.
    """
    header, body = HEAD.unpack(head)
    if header + body > LARGEST:
        raise FrameInvalid
    return header, body


def columns_of(arrays: Mapping[str, NDArray[Any]]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Arrays for the way: what the columns, or tensors, are, and their bytes."""
    described, parts = [], []
    for name, array in arrays.items():
        kind, raw = _packed(array)
        described.append({"name": name, "kind": kind, "shape": array.shape, "size": len(raw)})
        parts.append(raw)
    return described, parts


def arrays_of(described: Sequence[dict[str, Any]], body: bytes) -> Arrays:
    """The arrays back."""
    arrays: Arrays = {}
    start = 0
    for column in described:
        raw = body[start : start + column["size"]]
        start += column["size"]
        arrays[column["name"]] = _unpacked(raw, column["kind"]).reshape(column["shape"])
    return arrays


def _packed(array: NDArray[Any]) -> tuple[str, bytes]:
    if array.dtype != object:
        return array.dtype.str, np.ascontiguousarray(array).tobytes()
    values = array.ravel().tolist()
    if values and type(values[0]) is bytes:
        return BYTES, b"".join(chain.from_iterable((LENGTH.pack(len(value)), value) for value in values))
    return TEXTS, orjson.dumps(values)


def _unpacked(raw: bytes, kind: str) -> NDArray[Any]:
    if kind not in (TEXTS, BYTES):
        return np.frombuffer(raw, np.dtype(kind))
    values = orjson.loads(raw) if kind == TEXTS else list(_lengthened(raw))
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _lengthened(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        [size] = LENGTH.unpack_from(raw, start)
        start += LENGTH.size + size
        yield raw[start - size : start]


def answer_of(prediction: Prediction) -> tuple[dict[str, Any], list[bytes]]:
    """A prediction for the way."""
    if prediction.tensors is not None:
        described, parts = columns_of(prediction.tensors)
        return {"tensors": described}, parts
    if prediction.scores is None:
        if prediction.values.dtype.kind != "f":  # labels of a classifier that knows no probabilities
            return {"values": prediction.values.tolist(), "shape": None}, []
        return {"values": None, "shape": None}, [np.asarray(prediction.values, np.float64).tobytes()]
    scores = np.ascontiguousarray(prediction.scores, np.float64)
    return {"values": prediction.values.tolist(), "shape": list(scores.shape)}, [scores.tobytes()]


def prediction_of(header: dict[str, Any], body: bytes) -> Prediction:
    """The prediction back."""
    if "tensors" in header:
        return Prediction(NOTHING, None, arrays_of(header["tensors"], body))
    numbers = np.frombuffer(body, np.float64)
    if header["values"] is None:
        return Prediction(numbers, None)
    values = np.empty(len(header["values"]), object)
    values[:] = header["values"]
    return Prediction(values, None if header["shape"] is None else numbers.reshape(header["shape"]))
