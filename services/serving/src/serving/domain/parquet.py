"""Parquet files of plain columns, none of which is ever missing: one row group, one page a column, packed with gzip.

What is needed of the format fits here, and a library that reads and writes all of it is larger than the server
(docs/decisions/0031-requests-are-watched-where-they-pass.md). The footer is Thrift in its compact protocol.
"""

import enum
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAGIC = b"PAR1"
LEVEL = 1
"""Of the packing: texts shrink to a tenth at the first already."""
GZIP = 31
"""What zlib calls a window of 32 KiB with gzip's head and end."""
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
"""Types of the compact protocol."""


class Kind(enum.Enum):
    """A type of values: Parquet's physical type, and what it is taken to be (a converted type, if it is any)."""

    INTEGER = (2, None)
    NUMBER = (5, None)
    TEXT = (6, 0)
    TIME = (2, 10)
    """Microseconds since 1970, UTC."""


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind


def file_of(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> bytes:
    """The whole file. A row has a value for each column: int, float, or str."""
    parts, chunks, size = [MAGIC], [], len(MAGIC)
    for place, column in enumerate(columns):
        plain = _plain(column.kind, [row[place] for row in rows])
        packed = _packed(plain)
        head = _page(len(plain), len(packed), len(rows))
        parts += [head, packed]
        chunks.append(_chunk(column, len(rows), size, len(head) + len(plain), len(head) + len(packed)))
        size += len(head) + len(packed)
    footer = _footer(columns, len(rows), chunks, size - len(MAGIC))
    return b"".join([*parts, footer, struct.pack("<I", len(footer)), MAGIC])


def _plain(kind: Kind, values: list[Any]) -> bytes:
    if kind is Kind.TEXT:
        texts = [value.encode(errors="backslashreplace") for value in values]
        return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))
    return struct.pack(f"<{len(values)}{'d' if kind is Kind.NUMBER else 'q'}", *values)


def _packed(content: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, wbits=GZIP)
    return packer.compress(content) + packer.flush()


def _page(plain: int, packed: int, rows: int) -> bytes:
    # Values of a column that is never missing and not nested have no levels; both encodings are named all the same.
    data = _struct((1, I32, rows), (2, I32, 0), (3, I32, 3), (4, I32, 3))
    return _struct((1, I32, 0), (2, I32, plain), (3, I32, packed), (5, STRUCT, data))


def _chunk(column: Column, rows: int, at: int, plain: int, packed: int) -> bytes:
    said = _struct(
        (1, I32, column.kind.value[0]),
        (2, LIST, (I32, [0, 3])),
        (3, LIST, (BINARY, [column.name.encode()])),
        (4, I32, 2),  # gzip
        (5, I64, rows),
        (6, I64, plain),
        (7, I64, packed),
        (9, I64, at),
    )
    return _struct((2, I64, at), (3, STRUCT, said))


def _footer(columns: Sequence[Column], rows: int, chunks: list[bytes], size: int) -> bytes:
    schema = [_struct((4, BINARY, b"schema"), (5, I32, len(columns)))]
    for column in columns:
        physical, means = column.kind.value
        as_what = () if means is None else ((6, I32, means),)
        schema.append(_struct((1, I32, physical), (3, I32, 0), (4, BINARY, column.name.encode()), *as_what))
    group = _struct((1, LIST, (STRUCT, chunks)), (2, I64, size), (3, I64, rows))
    return _struct(
        (1, I32, 1),
        (2, LIST, (STRUCT, schema)),
        (3, I64, rows),
        (4, LIST, (STRUCT, [group])),
        (6, BINARY, b"trainyard"),
    )


def _struct(*fields: tuple[int, int, Any]) -> bytes:
    """Number, type and value of each, in the order of their numbers."""
    parts, before = [], 0
    for number, kind, value in fields:
        parts += [bytes([(number - before) << 4 | kind]), _value(kind, value)]
        before = number
    return b"".join([*parts, b"\0"])


def _value(kind: int, value: Any) -> bytes:
    if kind in (I32, I64):
        return _number(value << 1 if value >= 0 else ~(value << 1))
    if kind == BINARY:
        return _number(len(value)) + bytes(value)
    if kind == LIST:
        of, values = value
        head = bytes([len(values) << 4 | of]) if len(values) < 15 else bytes([0xF0 | of]) + _number(len(values))
        return head + b"".join(_value(of, it) for it in values)
    return bytes(value)  # a struct, as `_struct` made it


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
