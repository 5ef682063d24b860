"""A model of many numeric columns that takes them as one matrix: a hundred inputs cost the runtime more than a forest.

The converter's graph begins with one Concat of all inputs. Here, when a model is loaded, its columns become one input
of shape [rows, columns], and that node passes it on: the very matrix that it made, so that no answer differs. The file
is read as protocol buffers are, field by field, since `onnx` itself is not where models are served. Whatever looks
otherwise stays as it is.
"""

from collections.abc import Iterator, Sequence

MATRIX = "trainyard_columns"
"""The name of the one input."""
LEAST = 4
"""Columns, from which on it pays: most rows come as one matrix."""
_GRAPH = 7  # of a ModelProto
_NODE, _INPUT = 1, 11  # of a GraphProto
_TAKES, _GIVES, _KIND, _ATTRIBUTE = 1, 2, 4, 5  # of a NodeProto
_FLOAT = 1
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
Field = tuple[int, int, bytes]
"""Its number, its kind, and its content as it is written: of bytes without their length."""


def merged(content: bytes, columns: Sequence[str]) -> bytes | None:
    """The model with one input for all of these float columns; None where its graph does not begin so."""
    try:
        model = list(_fields(content))
        graph = [list(_fields(value)) for number, _, value in model if number == _GRAPH]
        if len(columns) < LEAST or len(graph) != 1:
            return None
        changed = _merged(graph[0], [name.encode() for name in columns])
    except (IndexError, ValueError):
        return None
    if changed is None:
        return None
    return b"".join(_written((number, kind, changed if number == _GRAPH else value)) for number, kind, value in model)


def _merged(graph: Sequence[Field], columns: Sequence[bytes]) -> bytes | None:
    nodes = [list(_fields(value)) for number, _, value in graph if number == _NODE]
    takers = [index for index, node in enumerate(nodes) if set(columns) & set(_all(node, _TAKES))]
    if len(takers) != 1 or [_name_of(value) for number, _, value in graph if number == _INPUT] != list(columns):
        return None
    node = nodes[takers[0]]
    gives = _all(node, _GIVES)
    is_concat = _all(node, _KIND) == [b"Concat"] and _all(node, _TAKES) == list(columns) and len(gives) == 1
    if not is_concat or not _joins_columns(node):
        return None
    passes = [(_TAKES, _BYTES, MATRIX.encode()), (_GIVES, _BYTES, gives[0]), (_KIND, _BYTES, b"Identity")]
    parts: list[bytes] = []
    seen, is_declared = 0, False
    for number, kind, value in graph:
        if number == _NODE:
            value = b"".join(map(_written, passes)) if seen == takers[0] else value
            seen += 1
        elif number == _INPUT:
            if is_declared:
                continue
            value, is_declared = _matrix(len(columns)), True
        parts.append(_written((number, kind, value)))
    return b"".join(parts)


def _joins_columns(node: Sequence[Field]) -> bool:
    """Whether its one attribute says `axis` 1, and so beside each other."""
    attributes = [list(_fields(value)) for number, _, value in node if number == _ATTRIBUTE]
    return len(attributes) == 1 and _all(attributes[0], 1) == [b"axis"] and _all(attributes[0], 3) == [b"\x01"]


def _matrix(columns: int) -> bytes:
    """A ValueInfoProto: floats of shape [rows, columns]."""
    rows = _written((1, _BYTES, _written((2, _BYTES, b"rows"))))
    shape = rows + _written((1, _BYTES, _written((1, _VARINT, _varint(columns)))))
    tensor = _written((1, _VARINT, _varint(_FLOAT))) + _written((2, _BYTES, shape))
    return _written((1, _BYTES, MATRIX.encode())) + _written((2, _BYTES, _written((1, _BYTES, tensor))))


def _name_of(value_info: bytes) -> bytes:
    return next(value for number, _, value in _fields(value_info) if number == 1)


def _all(message: Sequence[Field], number: int) -> list[bytes]:
    return [value for found, _, value in message if found == number]


def _fields(content: bytes) -> Iterator[Field]:
    at = 0
    while at < len(content):
        tag, at = _number(content, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, end = _number(content, at)
        elif kind == _BYTES:
            size, at = _number(content, at)
            end = at + size
        elif kind in (_EIGHT, _FOUR):
            end = at + (8 if kind == _EIGHT else 4)
        else:
            raise ValueError("This is no protocol buffer.")
        if end > len(content):
            raise ValueError("This protocol buffer is cut off.")
        yield number, kind, content[at:end]
        at = end


def _number(content: bytes, at: int) -> tuple[int, int]:
    """A varint, and where what is behind it begins."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _written(field: Field) -> bytes:
    number, kind, value = field
    tag = _varint(number << 3 | kind)
    return tag + (_varint(len(value)) + value if kind == _BYTES else value)
