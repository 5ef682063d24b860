"""What an ONNX file says that it takes and gives, read from the file itself: no runtime is needed, and nothing is run.

A protobuf is walked field by field. Weights are stepped over, whatever they weigh; what is read has bounds.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from trainyard.errors import TrainyardError

MOST_FIELDS = 2_000_000
LONGEST = 1 << 20  # bytes of a name, or of the description of one input
DATATYPES = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "BYTES",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
}
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
# The numbers of fields, by the message that they are in.
GRAPH, OPSET = 7, 8  # of a model
INITIALIZER, INPUT, OUTPUT, SPARSE = 5, 11, 12, 15  # of a graph
TENSOR_NAME, SPARSE_VALUES = 8, 1
INSTEAD = "Say it yourself: signature=… (on the command line: --signature sig.json)."


class NotOnnx(TrainyardError):
    """The file is no ONNX model, or says too little of what it takes and gives."""


class Field(NamedTuple):
    """A field of a message: a number, or where its bytes are."""

    number: int
    wire: int
    value: int
    start: int
    end: int


def signature_of(path: Path) -> dict[str, Any]:
    """The tensors that a model takes and gives; inputs that have a value of their own (weights) are none."""
    with path.open("rb") as file:
        return _Reader(file, path.name).signature(path.stat().st_size)


class _Reader:
    def __init__(self, file: BinaryIO, name: str, most: int = MOST_FIELDS) -> None:
        self._file = file
        self._name = name
        self._left = most

    def signature(self, size: int) -> dict[str, Any]:
        fields = [field for field in self._fields(0, size) if field.number in (GRAPH, OPSET)]
        graphs = [field for field in fields if field.number == GRAPH and field.wire == BYTES]
        if len(graphs) != 1 or len(fields) == len(graphs):
            raise self._is_none("it has no graph, or does not say of which opset it is")
        inputs, outputs, own = self._graph(graphs[0])
        taken = [self._tensor(field) for field in inputs]
        given = [self._tensor(field) for field in outputs]
        asked = [tensor for tensor in taken if tensor["name"] not in own]
        if not asked or not given:
            raise self._is_none("its graph has no inputs, or no outputs")
        return {"task": "tensors", "inputs": asked, "outputs": given, "classes": []}

    def _graph(self, graph: Field) -> tuple[list[Field], list[Field], set[str]]:
        """Its inputs, its outputs, and the names of what has a value already."""
        inputs, outputs, own = [], [], set()
        for field in self._fields(graph.start, graph.end):
            match field.number:
                case 11:
                    inputs.append(field)
                case 12:
                    outputs.append(field)
                case 5:
                    own.add(self._text(field, TENSOR_NAME))
                case 15:
                    own |= {self._text(values, TENSOR_NAME) for values in self._inside(field, SPARSE_VALUES)}
        return inputs, outputs, own

    def _tensor(self, value: Field) -> dict[str, Any]:
        """ValueInfoProto: name (1) and type (2), which is of a tensor (1) that has an element (1) and a shape (2)."""
        name = self._text(value, 1)
        tensors = [tensor for kind in self._inside(value, 2) for tensor in self._inside(kind, 1)]
        if not tensors:
            raise NotOnnx(
                f"{name!r} of {self._name} is no tensor but a sequence or a map, which cannot be sent. "
                "Convert the model without: skl2onnx.to_onnx(…, options={'zipmap': False})."
            )
        elements = [field.value for field in self._within(tensors[-1]) if field.number == 1 and field.wire == VARINT]
        datatype = DATATYPES.get(elements[-1] if elements else 0)
        if datatype is None:
            raise NotOnnx(f"{name!r} of {self._name} has elements of a kind that the inference protocol does not know.")
        shapes = self._inside(tensors[-1], 2)
        if not shapes:
            raise NotOnnx(f"{self._name} does not say how many dimensions {name!r} has. {INSTEAD}")
        return {"name": name, "datatype": datatype, "shape": [self._size(size) for size in self._inside(shapes[-1], 1)]}

    def _size(self, dimension: Field) -> int:
        """A dimension that has a name, or nothing, has any size."""
        sizes = [field.value for field in self._within(dimension) if field.number == 1 and field.wire == VARINT]
        return sizes[-1] if sizes and 0 < sizes[-1] < 2**31 else -1

    def _text(self, message: Field, number: int) -> str:
        texts = self._inside(message, number)
        if not texts:
            return ""
        field = texts[-1]
        if field.end - field.start > LONGEST:
            raise self._is_none("a name in it has no end")
        self._file.seek(field.start)
        return self._file.read(field.end - field.start).decode("utf-8", "replace")

    def _inside(self, message: Field, number: int) -> list[Field]:
        """The messages of that number in a message."""
        return [field for field in self._within(message) if field.number == number and field.wire == BYTES]

    def _within(self, message: Field) -> Iterator[Field]:
        if message.wire != BYTES:
            raise self._is_none("it is no protobuf of ONNX")
        return self._fields(message.start, message.end)

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        while start < end:
            self._left -= 1
            if self._left < 0:
                raise self._is_none("it has too many parts")
            self._file.seek(start)
            raw = self._file.read(min(20, end - start))
            key, at = self._varint(raw, 0)
            field = self._field(key, raw, at, start)
            if field.end > end or field.number == 0:
                raise self._is_none("it is no protobuf, or it is cut off")
            yield field
            start = field.end

    def _field(self, key: int, raw: bytes, at: int, start: int) -> Field:
        match key & 7:
            case 0:
                value, at = self._varint(raw, at)
                return Field(key >> 3, VARINT, value, start + at, start + at)
            case 2:
                length, at = self._varint(raw, at)
                return Field(key >> 3, BYTES, 0, start + at, start + at + length)
            case 1 | 5 as wire:
                begin = start + at
                return Field(key >> 3, wire, 0, begin, begin + (8 if wire == EIGHT else 4))
            case _:
                raise self._is_none("it is no protobuf")

    def _varint(self, raw: bytes, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(raw):
                break
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise self._is_none("it is no protobuf, or it is cut off")

    def _is_none(self, why: str) -> NotOnnx:
        return NotOnnx(f"{self._name} is not an ONNX model: {why}.")
