"""A row of the request log: what was asked and answered, by whom, and where the time went.

Inputs are rows as `predict` takes them, and outputs predictions as it gives them, whatever the protocol was.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.signature import MISSING_TIME, Arrays, Prediction, Signature
from models.tensor_signature import AnySignature
from serving.domain.parquet import Column, Kind

COLUMNS = (
    Column("time", Kind.TIME),
    Column("request_id", Kind.TEXT),
    Column("trace_id", Kind.TEXT),
    Column("project", Kind.TEXT),
    Column("deployment", Kind.TEXT),
    Column("revision", Kind.INTEGER),
    Column("model", Kind.TEXT),
    Column("version", Kind.INTEGER),
    Column("status", Kind.INTEGER),
    Column("code", Kind.TEXT),
    Column("rows", Kind.INTEGER),
    Column("rows_kept", Kind.INTEGER),
    Column("inputs", Kind.TEXT),
    Column("outputs", Kind.TEXT),
    Column("batch_rows", Kind.INTEGER),
    Column("read_seconds", Kind.NUMBER),
    Column("queue_seconds", Kind.NUMBER),
    Column("compute_seconds", Kind.NUMBER),
    Column("write_seconds", Kind.NUMBER),
    Column("seconds", Kind.NUMBER),
)
FIXED = 400
"""Bytes that a row takes beside what was asked and answered."""
OBJECT = 64
"""Bytes of a text beside its characters."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_sampled(request_id: str, share: float) -> bool:
    """Whether a request is one of those: the same id, the same answer, and whichever version it is sent to."""
    digest = hashlib.blake2b(request_id.encode(errors="replace"), digest_size=8, person=b"request log").digest()
    return int.from_bytes(digest) < share * (1 << 64)


@dataclass(frozen=True)
class Kept:
    """What is kept of what was asked and answered: the first rows, as many as fit, as arrays of their own."""

    signature: AnySignature
    rows: int
    arrays: Arrays
    prediction: Prediction | None

    @classmethod
    def of(
        cls, signature: AnySignature, arrays: Arrays, count: int, prediction: Prediction | None, most: int
    ) -> "Kept":
        """At most so many bytes of inputs, and of outputs."""
        outputs = {} if prediction is None else dict(enumerate(_arrays_of(prediction)))
        rows = min(_fitting(arrays.values(), count, most), _fitting(outputs.values(), count, most))
        kept = {name: _cut(array, count, rows) for name, array in arrays.items()}
        return cls(signature, rows, kept, None if prediction is None else _part(prediction, count, rows))

    @property
    def size(self) -> int:
        """Bytes, about."""
        outputs = [] if self.prediction is None else _arrays_of(self.prediction)
        return sum(map(_bytes, self.arrays.values())) + sum(map(_bytes, outputs))

    @property
    def inputs(self) -> str:
        """JSON."""
        names = list(self.arrays)
        columns = [_listed(self.signature, name, array) for name, array in self.arrays.items()]
        return _json([dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)])

    @property
    def outputs(self) -> str:
        """JSON."""
        if self.prediction is None or not self.rows:
            return "[]"
        return _json(self.signature.answers_of(self.prediction))


@dataclass(frozen=True)
class Logged:
    """A request that was answered, or was not."""

    at: float
    """When its answer was there, in seconds since 1970."""
    said: Mapping[str, Any]
    """By the names of columns."""
    kept: Kept | None
    """None: its body was not understood, or never read."""

    @property
    def size(self) -> int:
        """Bytes, about."""
        return FIXED + (0 if self.kept is None else self.kept.size)

    @property
    def place(self) -> tuple[str, str, str]:
        """The project, the deployment, and the hour."""
        hour = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%dT%H")
        return self.said["project"], self.said["deployment"], hour

    def row(self) -> list[Any]:
        """The values of the columns."""
        kept = self.kept
        values = {"inputs": "[]", "outputs": "[]", "rows_kept": 0, **self.said, "time": round(self.at * 1_000_000)}
        if kept is not None:
            values |= {"inputs": kept.inputs, "outputs": kept.outputs, "rows_kept": kept.rows}
        return [values[column.name] for column in COLUMNS]


def _fitting(arrays: Any, count: int, most: int) -> int:
    """Rows, from the first, all of whose values take at most so many bytes."""
    left, plain, texts = count, 0, []
    for array in arrays:
        if array.dtype == object and len(array) == count:
            texts.append(array)
        else:
            plain += array.nbytes
    each = plain / count if count else 0
    left = min(count, int(most / each)) if each else count
    taken = 0.0
    for row in range(left if texts else 0):
        taken += each + sum(_bytes(array[row : row + 1]) for array in texts)
        if taken > most:
            return row
    return left


def _bytes(array: NDArray[Any]) -> int:
    if array.dtype != object:
        return array.nbytes
    return sum(OBJECT + len(value) for value in array.flat if isinstance(value, str | bytes))


def _cut(array: NDArray[Any], count: int, rows: int) -> NDArray[Any]:
    return array[:rows].copy() if rows < count or len(array) == count else array.copy()


def _part(prediction: Prediction, count: int, rows: int) -> Prediction:
    tensors = prediction.tensors
    if tensors is not None:
        return Prediction(prediction.values, None, {name: _cut(it, count, rows) for name, it in tensors.items()})
    scores = None if prediction.scores is None else _cut(prediction.scores, count, rows)
    return Prediction(_cut(prediction.values, count, rows), scores)


def _arrays_of(prediction: Prediction) -> list[NDArray[Any]]:
    if prediction.tensors is not None:
        return list(prediction.tensors.values())
    return [prediction.values] if prediction.scores is None else [prediction.values, prediction.scores]


def _listed(signature: AnySignature, name: str, array: NDArray[Any]) -> list[Any]:
    """The values of a column, or of an input, as a body of JSON says them."""
    if not isinstance(signature, Signature):
        return _plain(array)
    kind = next((column.type for column in signature.inputs if column.name == name), "number")
    values = [row[0] for row in _plain(array)]
    match kind:
        case "integer":
            return [None if value is None else int(value) for value in values]
        case "boolean":
            return [None if value is None else bool(value) for value in values]
        case "timestamp":
            return [None if value == MISSING_TIME else _time(value) for value in values]
        case _:
            return values


def _plain(array: NDArray[Any]) -> list[Any]:
    """Nested lists. A float is the shortest that reads back as one of its kind; what is not finite is None."""
    if array.dtype == object:
        found: list[Any] = array.tolist()
        return found
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    listed: list[Any] = orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))
    return listed


def _time(microseconds: int) -> str:
    try:
        return (EPOCH + timedelta(microseconds=microseconds)).isoformat().removesuffix("+00:00") + "Z"
    except OverflowError:
        return str(microseconds)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=_said).decode()
    except (TypeError, ValueError):  # a text that is none
        return "[]"


def _said(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    raise TypeError


def by_place(rows: list[Logged]) -> Iterator[tuple[tuple[str, str, str], list[Logged]]]:
    """What belongs into one file each."""
    places: dict[tuple[str, str, str], list[Logged]] = {}
    for row in rows:
        places.setdefault(row.place, []).append(row)
    yield from places.items()
