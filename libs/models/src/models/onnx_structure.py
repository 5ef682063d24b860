"""What is in an ONNX file, before anything runs it: the fields of its protobuf, walked strictly and within a bound.

No process of ours loads what is no ONNX model (no bytes at all are a valid one to others), or has its weights in
another file: that is an OnnxOutside. `unplain` says why a model may not run in serving's own process, where a crash, or
an answer that never comes, would hurt other projects too: loops, branches, functions, and operators of other domains.
"""

import re
from collections.abc import Iterator

from kit import errors

MAX_PARTS = 500_000
"""Fields that are looked at; runs of numbers count as one."""
MAX_DEPTH = 16
STANDARD = frozenset({b"", b"ai.onnx", b"ai.onnx.ml"})
BRANCHING = frozenset({b"Loop", b"Scan", b"If", b"SequenceMap"})
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING, OPSET = range(9)
# Of each kind, the fields that are walked into, and those that are bytes to be looked at.
INSIDE = {
    MODEL: {7: GRAPH, 8: OPSET, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    TENSOR: {},
    SPARSE: {1: TENSOR, 2: TENSOR},
    FUNCTION: {7: NODE, 9: OPSET, 11: ATTRIBUTE},
    TRAINING: {1: GRAPH, 2: GRAPH},
    OPSET: {},
}
OP_TYPE, DOMAIN, OPSET_DOMAIN = (NODE, 4), (NODE, 7), (OPSET, 1)
IR_VERSION, OUTPUT, EXTERNAL, LOCATION = (MODEL, 1), (GRAPH, 12), (TENSOR, 13), (TENSOR, 14)
# An attribute's numbers and words come one field each: of a forest millions, which are stepped over at once.
RUNS = {
    0x3D: re.compile(rb"(?:\x3d.{4})+", re.DOTALL),
    0x40: re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+"),
    0x4A: re.compile(rb"(?:\x4a\x04.{4}|\x4a\x0a.{10}|\x4a\x0b.{11}|\x4a\x09.{9})+", re.DOTALL),
}
VALUES = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]")


class OnnxOutside(errors.Corrupt):
    """The bytes are not an ONNX model that is whole."""


class _Walk:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = MAX_PARTS
        self.graphs = self.outputs = 0
        self.has_version = False
        self.unplain = ""

    def message(self, kind: int, start: int, end: int, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise OnnxOutside("The model's graphs are nested too deeply.")
        for number, wire, first, last in self._fields(kind, start, end):
            inside = INSIDE[kind].get(number)
            if inside is None:
                self._see((kind, number), wire, first, last)
                continue
            if wire != BYTES:
                raise OnnxOutside("The file is no protobuf of ONNX.")
            self._enter(kind, inside, depth)
            self.message(inside, first, last, depth + 1)

    def _enter(self, kind: int, inside: int, depth: int) -> None:
        if inside == GRAPH and kind == MODEL:
            self.graphs += 1
        elif inside == GRAPH:
            self._note("has a graph within its graph")
        elif inside == FUNCTION:
            self._note("has functions of its own")

    def _see(self, place: tuple[int, int], wire: int, first: int, last: int) -> None:
        if place == EXTERNAL or (place == LOCATION and self._content[first:last] != b"\0"):
            raise OnnxOutside("The model has weights in another file.")
        if place == IR_VERSION:
            self.has_version = wire == VARINT
        elif place == OUTPUT:
            self.outputs += 1
        elif place == OP_TYPE and self._content[first:last] in BRANCHING:
            self._note("loops or branches")
        elif place in (DOMAIN, OPSET_DOMAIN) and self._content[first:last] not in STANDARD:
            self._note("has operators that are not ONNX's own")

    def _note(self, why: str) -> None:
        self.unplain = self.unplain or why

    def _fields(self, kind: int, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, and where the value begins and ends."""
        content = self._content
        while start < end:
            if kind == ATTRIBUTE and (run := RUNS.get(content[start])) and (found := run.match(content, start, end)):
                start = found.end()
                continue
            self._left -= 1
            if self._left < 0:
                raise OnnxOutside(f"The model has more than {MAX_PARTS} parts.")
            key, first = self._varint(start, end)
            number, wire = key >> 3, key & 7
            if wire == VARINT:
                last = self._varint(first, end)[1]
            elif wire == BYTES:
                size, first = self._varint(first, end)
                last = first + size
            elif wire in (EIGHT, FOUR):
                last = first + (8 if wire == EIGHT else 4)
            else:
                raise OnnxOutside("The file is no protobuf.")
            if last > end or not number:
                raise OnnxOutside("The file is no protobuf, or is cut off.")
            yield number, wire, first, last
            start = last

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        found = VALUES.match(self._content, start, end)
        if found is None:
            raise OnnxOutside("The file is no protobuf, or is cut off.")
        value = 0
        for shift, byte in enumerate(found.group()):
            value |= (byte & 127) << 7 * shift
        return value, found.end()


def unplain(content: bytes) -> str:
    """Why a model may not run in a process that others share; "" is nothing.

    Raises:
        OnnxOutside: it may not run at all.
    """
    walk = _Walk(content)
    walk.message(MODEL, 0, len(content))
    if not walk.has_version or walk.graphs != 1 or not walk.outputs:
        raise OnnxOutside("The file is not an ONNX model: it has no version, no graph or no outputs.")
    return walk.unplain
