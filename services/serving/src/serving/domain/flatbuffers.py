"""As much of FlatBuffers as the metadata of Arrow needs: tables, vectors and strings, read with every bound checked.

A table points at its vtable, which says where each of its fields lies; what is not there has its default. The writer
gives each field eight bytes, so that everything is aligned, whatever it is.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 4096


class FlatBufferInvalid(Exception):
    """The bytes do not hold what they say."""


@dataclass(frozen=True)
class Table:
    """A table within `buffer`, at `position`."""

    buffer: bytes
    position: int

    @classmethod
    def root(cls, buffer: bytes) -> "Table":
        return cls(buffer, _at(buffer, "<I", 0))

    def scalar(self, slot: int, form: str, default: int = 0) -> int:
        """An integer field; `form` is that of `struct`."""
        place = self._field(slot)
        return default if place is None else _at(self.buffer, form, place)

    def table(self, slot: int) -> "Table | None":
        place = self._field(slot)
        return None if place is None else Table(self.buffer, place + _at(self.buffer, "<I", place))

    def text(self, slot: int) -> str:
        """
        Raises:
            FlatBufferInvalid: it is none, or is longer than anything here may be.
        """
        place = self._field(slot)
        if place is None:
            return ""
        begin = place + _at(self.buffer, "<I", place)
        length = _at(self.buffer, "<I", begin)
        raw = self.buffer[begin + 4 : begin + 4 + length]
        if length > LONGEST_TEXT or len(raw) != length:
            raise FlatBufferInvalid
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise FlatBufferInvalid from None

    def tables(self, slot: int, *, most: int) -> Iterator["Table"]:
        """A vector of at most `most` tables."""
        begin, length = self._vector(slot, most)
        for place in range(begin, begin + 4 * length, 4):
            yield Table(self.buffer, place + _at(self.buffer, "<I", place))

    def pairs(self, slot: int, *, most: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers."""
        begin, length = self._vector(slot, most)
        raw = self.buffer[begin : begin + 16 * length]
        if len(raw) != 16 * length:
            raise FlatBufferInvalid
        return list(struct.iter_unpack("<qq", raw))

    def _vector(self, slot: int, most: int) -> tuple[int, int]:
        place = self._field(slot)
        if place is None:
            return 0, 0
        begin = place + _at(self.buffer, "<I", place)
        length = _at(self.buffer, "<I", begin)
        if length > most:
            raise FlatBufferInvalid
        return begin + 4, length

    def _field(self, slot: int) -> int | None:
        vtable = self.position - _at(self.buffer, "<i", self.position)
        within = 4 + 2 * slot
        if within + 2 > _at(self.buffer, "<H", vtable):
            return None
        offset = _at(self.buffer, "<H", vtable + within)
        return self.position + offset if offset else None


def _at(buffer: bytes, form: str, place: int) -> int:
    # A negative place would count from the end.
    if not 0 <= place <= len(buffer) - struct.calcsize(form):
        raise FlatBufferInvalid
    [value] = struct.unpack_from(form, buffer, place)
    return int(value)


Put = Callable[[bytearray], int]
"""Writes something at the end of a buffer, and says where it begins."""


def table(*fields: Any) -> Put:
    """A table of these fields in their slots: an integer, something to put, or None for what is not there."""

    def put(out: bytearray) -> int:
        vtable = _aligned(out, 2)
        offsets = [0 if field is None else 4 + 8 * place for place, field in enumerate(fields)]
        out += struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), 4 + 8 * len(fields), *offsets)
        position = _aligned(out, 8, 4)
        out += struct.pack("<i", position - vtable)
        out += bytes(8 * len(fields))
        for place, field in enumerate(fields):
            _put(out, position + 4 + 8 * place, field)
        return position

    return put


def vector(items: Sequence[Put]) -> Put:
    """Of tables."""

    def put(out: bytearray) -> int:
        begin = _aligned(out, 4)
        out += struct.pack("<I", len(items)) + bytes(4 * len(items))
        for place, item in enumerate(items):
            _put(out, begin + 4 + 4 * place, item)
        return begin

    return put


def pairs(items: Sequence[tuple[int, int]]) -> Put:
    """A vector of structs of two 64-bit integers."""

    def put(out: bytearray) -> int:
        begin = _aligned(out, 8, 4)
        out += struct.pack("<I", len(items)) + b"".join(struct.pack("<qq", *item) for item in items)
        return begin

    return put


def text(value: str) -> Put:
    def put(out: bytearray) -> int:
        begin = _aligned(out, 4)
        raw = value.encode()
        out += struct.pack("<I", len(raw)) + raw + b"\0"
        return begin

    return put


def buffer_of(root: Put) -> bytes:
    """A whole buffer, whose length is a multiple of eight."""
    out = bytearray(8)
    struct.pack_into("<I", out, 0, root(out))
    _aligned(out, 8)
    return bytes(out)


def _put(out: bytearray, place: int, field: Any) -> None:
    if isinstance(field, int):
        struct.pack_into("<q", out, place, field)  # little-endian: the narrower ones are its first bytes
    elif field is not None:
        struct.pack_into("<I", out, place, field(out) - place)


def _aligned(out: bytearray, size: int, rest: int = 0) -> int:
    """Fill up to the next place that leaves `rest` when divided by `size`."""
    out += bytes((rest - len(out)) % size)
    return len(out)
