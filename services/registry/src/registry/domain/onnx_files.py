"""ONNX files by their structure: the fields of a protobuf, walked with a bound. Weights are stepped over, unread."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from registry.domain.findings import Wrong

MOST_FIELDS = 1_000_000
DEEPEST = 24
"""Of graphs in attributes of nodes of graphs."""
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_LONGEST = 20
"""Bytes of a field's key and of its length."""
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING = range(8)
# What is walked into, for what it may hold: tensors. Anything else is stepped over.
_INSIDE = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _TENSOR: {},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
}
_KNOWN = {
    _MODEL: frozenset((*range(1, 9), 14, 20, 25, 26)),
    _GRAPH: frozenset((1, 2, 5, *range(10, 17))),
}
_EXTERNAL, _LOCATION = 13, 14


@dataclass(frozen=True)
class _Field:
    number: int
    wire: int
    value: int
    """Of a number; of bytes, how many."""
    start: int

    @property
    def end(self) -> int:
        return self.start + (self.value if self.wire == _BYTES else 0)


def check_onnx(file: BinaryIO, size: int, most: int = MOST_FIELDS) -> None:
    """`most`: fields that are looked at.

    Raises:
        Wrong: it is no ONNX model, or its weights are in another file.
    """
    if not size:
        raise Wrong("it is empty")
    _Walk(file, most).check(size)


class _Walk:
    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._most = self._left = most

    def check(self, size: int) -> None:
        fields = self._message(_MODEL, 0, size, 0)
        graphs = [field for field in fields if field.number == 7]
        versions = [field.value for field in fields if field.number == 1 and field.wire == _VARINT]
        if len(graphs) != 1 or graphs[0].wire != _BYTES or not versions or not 1 <= versions[-1] <= 1000:
            raise Wrong("it has no IR version, or not one graph")
        if not any(field.number == 8 for field in fields):
            raise Wrong("it does not say of which opset its operators are")
        if not any(field.number == 12 for field in self._fields(_GRAPH, graphs[0].start, graphs[0].end)):
            raise Wrong("its graph has no outputs")

    def _message(self, kind: int, start: int, end: int, depth: int) -> list[_Field]:
        """The fields of the model itself; those below are looked at and forgotten."""
        if depth > DEEPEST:
            raise Wrong("its graphs are nested too deeply")
        seen: list[_Field] = []
        for field in self._fields(kind, start, end):
            if kind == _MODEL:
                seen.append(field)
            inside = _INSIDE[kind].get(field.number)
            if inside is not None:
                if field.wire != _BYTES:
                    raise Wrong("it is no protobuf of ONNX")
                self._message(inside, field.start, field.end, depth + 1)
            elif kind == _TENSOR:
                _refuse_external(field)
        return seen

    def _fields(self, kind: int, start: int, end: int) -> Iterator[_Field]:
        known = _KNOWN.get(kind)
        while start < end:
            field = self._field(start, end)
            if known is not None and field.number not in known:
                raise Wrong("it is no protobuf of ONNX")
            yield field
            start = field.end

    def _field(self, start: int, end: int) -> _Field:
        self._left -= 1
        if self._left < 0:
            raise Wrong(f"it has more than {self._most} parts")
        self._file.seek(start)
        raw = self._file.read(min(_LONGEST, end - start))
        key, at = _varint(raw, 0)
        wire, value = key & 7, 0
        if wire in (_VARINT, _BYTES):
            value, at = _varint(raw, at)
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
        else:
            raise Wrong("it is no protobuf")
        field = _Field(key >> 3, wire, value, start + at)
        if field.end > end or not 0 < field.number < 1 << 29:
            raise Wrong("it is no protobuf, or it is cut off")
        return field


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            break
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Wrong("it is no protobuf, or it is cut off")


def _refuse_external(field: _Field) -> None:
    if field.number == _EXTERNAL or (field.number == _LOCATION and field.value):
        raise Wrong(
            "its weights are in another file; save it as one: onnx.save_model(model, path, save_as_external_data=False)"
        )
