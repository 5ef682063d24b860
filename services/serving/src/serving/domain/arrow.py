"""Bodies in Arrow's stream format, read here and with every bound checked: no library that trusts its input is needed.

Understood are columns of integers, floats, truths, texts, bytes and timestamps, and lists of a fixed size of numbers.
What could unfold to more than the bytes that came is refused: compressed buffers, dictionaries, buffers that overlap.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import errors
from serving.domain.flatbuffers import FlatBufferInvalid, Table

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
MAX_BATCHES = 1000
MAX_DEPTH = 8
CONTINUES = b"\xff\xff\xff\xff"
MESSAGE = struct.Struct("<4sI")
SCHEMA, RECORDS = 1, 3
INT, FLOAT, BINARY, UTF8, BOOL, TIMESTAMP, FIXED_LIST, LARGE_BINARY, LARGE_UTF8 = 2, 3, 4, 5, 6, 10, 16, 19, 20
OFFSETS: Mapping[int, str] = {BINARY: "<i4", UTF8: "<i4", LARGE_BINARY: "<i8", LARGE_UTF8: "<i8"}
MICROSECONDS: Mapping[int, tuple[int, int]] = {0: (1_000_000, 1), 1: (1000, 1), 2: (1, 1), 3: (1, 1000)}
"""Of each unit of a timestamp, by what to multiply and to divide."""
MISSING_TIME = np.iinfo(np.int64).min


class ArrowInvalid(errors.Malformed):
    """The body is no stream of Arrow, or one with something that is not taken here."""


@dataclass(frozen=True)
class Column:
    """What the schema says of one."""

    name: str
    kind: int
    dtype: str
    """NumPy's, of the values: of texts and bytes `O`, of timestamps int64."""
    unit: int = 0
    sizes: tuple[int, ...] = ()
    """Of lists of a fixed size, from the outermost."""


@dataclass(frozen=True)
class Batch:
    """Buffers of some rows."""

    length: int
    nodes: Iterator[tuple[int, int]]
    buffers: Iterator[bytes]


def read(content: bytes, *, columns: int, most: int) -> dict[str, NDArray[Any]]:
    """The columns by name, [rows, …], of at most `columns` columns with `most` values altogether.

    What is missing is NaN in numbers and truths (which become floats), None in texts, and the smallest int64 in times.

    Raises:
        ArrowInvalid: the body cannot be read, has more, or something that is not taken.
    """
    try:
        return _read(content, columns, most)
    except FlatBufferInvalid:
        raise ArrowInvalid("The body is not a stream of Arrow.") from None


def _read(content: bytes, columns: int, most: int) -> dict[str, NDArray[Any]]:
    messages = _messages(content)
    kind, header, _ = next(messages, (0, Table(b"", 0), b""))
    if kind != SCHEMA:
        raise ArrowInvalid("The body is not a stream of Arrow: it has no schema first.")
    fields = _schema(header, columns)
    found: list[list[NDArray[Any]]] = [[] for _ in fields]
    left = most
    for number, (kind, header, body) in enumerate(messages):
        if kind != RECORDS or number == MAX_BATCHES:
            raise ArrowInvalid(
                f"A stream of Arrow here has at most {MAX_BATCHES} batches of records, and nothing else."
            )
        batch = _batch(header, body, fields)
        left -= batch.length * sum(_width(field) for field in fields)
        if left < 0:
            raise ArrowInvalid(f"A request may have {most} values at most.")
        for field, parts in zip(fields, found, strict=True):
            parts.append(_values(field, batch))
    if not found[0]:
        raise ArrowInvalid("The stream of Arrow has no rows.")
    return {field.name: _joined(parts) for field, parts in zip(fields, found, strict=True)}


def _messages(content: bytes) -> Iterator[tuple[int, Table, bytes]]:
    """Kind, header and body of each, up to the end that is said or is there."""
    place = 0
    while place < len(content):
        if len(content) - place < MESSAGE.size:
            raise FlatBufferInvalid
        mark, size = MESSAGE.unpack_from(content, place)
        if mark != CONTINUES:
            raise FlatBufferInvalid
        if size == 0:
            return
        place += MESSAGE.size
        metadata = content[place : place + size]
        message = Table.root(metadata)
        place += size
        length = message.scalar(3, "<q")
        header = message.table(2)
        if len(metadata) != size or header is None or not 0 <= length <= len(content) - place:
            raise FlatBufferInvalid
        yield message.scalar(1, "<B"), header, content[place : place + length]
        place += length


def _schema(header: Table, most: int) -> list[Column]:
    if header.scalar(0, "<h"):
        raise ArrowInvalid("Arrow of big-endian machines is not taken.")
    try:
        fields = [_column(field) for field in header.tables(1, most=most)]
    except FlatBufferInvalid:
        raise ArrowInvalid(f"The schema cannot be read, or has more than the model's {most} columns.") from None
    names = [field.name for field in fields]
    if not names or len(set(names)) != len(names):
        raise ArrowInvalid("The schema has no columns, or names one twice.")
    return fields


def _column(field: Table, depth: int = 0) -> Column:
    name, kind, said = field.text(0), field.scalar(2, "<B"), field.table(3)
    if said is None or field.table(4) is not None:
        raise ArrowInvalid(f"Column {name[:100]!r} is a dictionary, which is not taken: send its values.")
    if kind == FIXED_LIST:
        inner, size = _item(field, depth), said.scalar(0, "<i")
        if size > 0 and inner is not None and inner.kind in (INT, FLOAT, BOOL):
            return Column(name, inner.kind, inner.dtype, sizes=(size, *inner.sizes))
    elif dtype := _dtype(kind, said):
        return Column(name, kind, dtype, said.scalar(0, "<h") if kind == TIMESTAMP else 0)
    raise ArrowInvalid(f"Column {name[:100]!r} has a type that is not taken here.")


def _item(field: Table, depth: int) -> Column | None:
    """What the lists of a column hold."""
    children = list(field.tables(5, most=1))
    return _column(children[0], depth + 1) if children and depth < MAX_DEPTH else None


def _dtype(kind: int, said: Table) -> str:
    """NumPy's name of a type's values; nothing, if the type is not taken."""
    if kind == INT:
        width = said.scalar(0, "<i")
        return f"<{'i' if said.scalar(1, '<B') else 'u'}{width // 8}" if width in (8, 16, 32, 64) else ""
    if kind == FLOAT:
        return {0: "<f2", 1: "<f4", 2: "<f8"}.get(said.scalar(0, "<h"), "")
    if kind == TIMESTAMP:
        return "<i8" if said.scalar(0, "<h") in MICROSECONDS else ""
    return "?" if kind == BOOL else "O" if kind in OFFSETS else ""


def _width(field: Column) -> int:
    """Values in a row of it."""
    return math.prod(field.sizes)


def _batch(header: Table, body: bytes, fields: Sequence[Column]) -> Batch:
    if header.table(3) is not None:
        raise ArrowInvalid("Compressed buffers of Arrow are not taken: compress the request instead.")
    length = header.scalar(0, "<q")
    nodes = sum(1 + len(field.sizes) for field in fields)
    said = header.pairs(1, most=nodes)
    buffers = header.pairs(2, most=3 * nodes)
    if length < 0 or len(said) != nodes:
        raise FlatBufferInvalid
    return Batch(length, iter(said), _buffers(body, buffers))


def _buffers(body: bytes, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Each after the one before: no byte is said twice."""
    end = 0
    for offset, length in places:
        if length < 0 or (length and not end <= offset <= len(body) - length):
            raise ArrowInvalid("The buffers of a batch lie over each other, or beyond its body.")
        end = max(end, offset + length) if length else end
        yield body[offset : offset + length]
    raise ArrowInvalid("A batch has fewer buffers than its columns need.")


def _values(field: Column, batch: Batch) -> NDArray[Any]:
    """[rows, *sizes] of a column."""
    count = batch.length
    for size in field.sizes:
        _node(batch, count)
        if _gaps(next(batch.buffers), count) is not None:
            raise ArrowInvalid(f"Column {field.name[:100]!r} has lists that are missing.")
        count *= size
    _node(batch, count)
    gaps = _gaps(next(batch.buffers), count)
    if field.dtype == "O":
        values = _texts(field, batch, count)
    elif field.dtype == "?":
        values = _bits(next(batch.buffers), count)
    else:
        values = _numbers(next(batch.buffers), field.dtype, count)
    if field.kind == TIMESTAMP:
        values = _microseconds(values, field.unit)
    return (values if gaps is None else _with_gaps(field, values, gaps)).reshape(batch.length, *field.sizes)


def _node(batch: Batch, count: int) -> None:
    if next(batch.nodes)[0] != count:
        raise ArrowInvalid("A batch has columns of several lengths.")


def _gaps(bitmap: bytes, count: int) -> NDArray[np.bool_] | None:
    """Which values are missing; None: none is."""
    if not bitmap:
        return None
    gaps = ~_bits(bitmap, count)
    return gaps if gaps.any() else None


def _bits(raw: bytes, count: int) -> NDArray[np.bool_]:
    if len(raw) * 8 < count:
        raise ArrowInvalid("A buffer is shorter than its column.")
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=count, bitorder="little").astype(bool)


def _numbers(raw: bytes, dtype: str, count: int) -> NDArray[Any]:
    if len(raw) < count * np.dtype(dtype).itemsize:
        raise ArrowInvalid("A buffer is shorter than its column.")
    return np.frombuffer(raw, dtype, count=count)


def _texts(field: Column, batch: Batch, count: int) -> NDArray[Any]:
    raw, data = next(batch.buffers), next(batch.buffers)
    offsets = _numbers(raw, OFFSETS[field.kind], count + 1 if count or raw else 0).astype(np.int64)
    if len(offsets) and (offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any()):
        raise ArrowInvalid(f"Column {field.name[:100]!r} has offsets that do not fit its bytes.")
    ends = offsets.tolist()
    values = np.empty(count, object)
    values[:] = [data[begin:end] for begin, end in pairwise(ends)]
    return values


def _microseconds(values: NDArray[Any], unit: int) -> NDArray[Any]:
    times, divisor = MICROSECONDS[unit]
    if len(values) and (np.abs(values // divisor) > np.iinfo(np.int64).max // (2 * times)).any():
        raise ArrowInvalid("A timestamp is out of all range.")
    return values // divisor * times


def _with_gaps(field: Column, values: NDArray[Any], gaps: NDArray[np.bool_]) -> NDArray[Any]:
    missing: Any = np.nan
    if field.dtype == "O":
        missing = None
    elif field.kind == TIMESTAMP:
        missing = MISSING_TIME
    else:
        values = values.astype(values.dtype if values.dtype.kind == "f" else np.float64)
    values = values.copy()
    values[gaps] = missing
    return values


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
