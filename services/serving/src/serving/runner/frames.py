"""What a replica and its runner child say to each other: a JSON header and raw arrays, framed by their lengths.

to the child    {"id", "op": "load", "model", "path", "digest", "signature", "example"}
                {"id", "op": "unload", "model"}
                {"id", "op": "predict", "model", "columns": [{"name", "kind", "size"}]} + the columns' bytes
from the child  {"id", "begun": true}, when its turn has come; then
                {"id", "ok": true, "seconds"?, "values"?, "scores"?} + the scores' bytes
                {"id", "ok": false, "kind": "absent" | "memory" | "corrupt" | "failed", "detail"}
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.signature import Arrays, Prediction

HEAD = struct.Struct("<II")
LARGEST = 256 << 20


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


def columns_of(arrays: Arrays) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Arrays for the way: what the columns are, and their bytes."""
    described, parts = [], []
    for name, array in arrays.items():
        text = array.dtype == object
        raw = orjson.dumps(array[:, 0].tolist()) if text else np.ascontiguousarray(array).tobytes()
        described.append({"name": name, "kind": "str" if text else array.dtype.str, "size": len(raw)})
        parts.append(raw)
    return described, parts


def arrays_of(described: Sequence[dict[str, Any]], body: bytes) -> Arrays:
    """The arrays back."""
    arrays: Arrays = {}
    start = 0
    for column in described:
        raw = body[start : start + column["size"]]
        start += column["size"]
        arrays[column["name"]] = _texts(raw) if column["kind"] == "str" else _numbers(raw, column["kind"])
    return arrays


def _texts(raw: bytes) -> NDArray[Any]:
    values = orjson.loads(raw)
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


def _numbers(raw: bytes, kind: str) -> NDArray[Any]:
    return np.frombuffer(raw, np.dtype(kind)).reshape(-1, 1)


def answer_of(prediction: Prediction) -> tuple[dict[str, Any], list[bytes]]:
    """A prediction for the way."""
    if prediction.scores is None:
        return {"values": None, "shape": None}, [np.asarray(prediction.values, np.float64).tobytes()]
    scores = np.ascontiguousarray(prediction.scores, np.float64)
    return {"values": prediction.values.tolist(), "shape": list(scores.shape)}, [scores.tobytes()]


def prediction_of(header: dict[str, Any], body: bytes) -> Prediction:
    """The prediction back."""
    numbers = np.frombuffer(body, np.float64)
    if header["shape"] is None:
        return Prediction(numbers, None)
    values = np.empty(len(header["values"]), object)
    values[:] = header["values"]
    return Prediction(values, numbers.reshape(header["shape"]))
