"""A tree of Python values as one safetensors file: arrays as they are, all else as JSON in its header. Never a pickle.

A tree is made of dicts, lists, tuples, strings, bytes, numbers, None, torch tensors and NumPy arrays, which is what
`state_dict()` answers and what generators of random numbers tell. What was saved comes back equal: tuples as tuples,
keys that are numbers as numbers, floats to the last bit.
"""

import ctypes
import json
import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple

from trainyard.runtime.mistakes import CannotSave, DamagedFile

KEY = "$"
TREE = "trainyard"
LONGEST_HEADER = 100 << 20
SCALARS = (str, bool, int, type(None))
KINDS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
NAMES = {kind: name for name, kind in KINDS.items()}


class Block(NamedTuple):
    """An array on its way into a file."""

    kind: str
    shape: tuple[int, ...]
    content: bytes | memoryview


def encoded(tree: Any) -> Iterator[bytes | memoryview]:
    """The file, in pieces.

    Raises:
        CannotSave: there is something in the tree that this cannot hold, and where.
    """
    blocks: dict[str, Block] = {}
    text = json.dumps(_plain(tree, blocks, "state"), allow_nan=False)
    yield from _file(blocks, {"__metadata__": {TREE: text}})


def of_tensors(tensors: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """A safetensors file of tensors by their names, for others to read."""
    blocks: dict[str, Block] = {}
    for name, tensor in tensors.items():
        made: dict[str, Block] = {}
        _array(tensor, made, name)
        blocks[name] = made["000000"]
    yield from _file(blocks, {})


def _file(blocks: Mapping[str, Block], header: dict[str, Any]) -> Iterator[bytes | memoryview]:
    end = 0
    for name, block in blocks.items():
        start, end = end, end + len(block.content)
        header[name] = {"dtype": block.kind, "shape": block.shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    if len(raw) > LONGEST_HEADER:
        raise CannotSave("A state has too many small values for a checkpoint: make arrays of them.")
    yield len(raw).to_bytes(8, "little")
    yield raw
    yield from (block.content for block in blocks.values())


def decoded(file: BinaryIO) -> Any:
    """The tree that a file holds.

    Raises:
        DamagedFile: it holds none.
    """
    try:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= LONGEST_HEADER:
            raise DamagedFile("It is no file of a checkpoint.")
        header = json.loads(file.read(length))
        tree = json.loads(header.pop("__metadata__")[TREE])
        return _valued(tree, {name: _read(file, 8 + length, entry) for name, entry in header.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"It is no file of a checkpoint: {error}") from error


def _plain(value: Any, blocks: dict[str, Block], place: str) -> Any:
    """As JSON has it. What JSON has no word for is a dict with the one key that no other dict may have."""
    match value:
        case bool() | None:
            return value
        case str():
            return str(value)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else {KEY: "float", "value": repr(float(value))}
        case bytes() | bytearray():
            return {KEY: "bytes", "name": _added(blocks, Block("U8", (len(value),), bytes(value)))}
        case Mapping():
            return _mapping(value, blocks, place)
        case tuple():
            return {KEY: "tuple", "items": _items(value, blocks, place)}
        case list():
            return _items(value, blocks, place)
    return _array(value, blocks, place)


def _items(values: Any, blocks: dict[str, Block], place: str) -> list[Any]:
    return [_plain(value, blocks, f"{place}[{number}]") for number, value in enumerate(values)]


def _mapping(value: Mapping[Any, Any], blocks: dict[str, Block], place: str) -> Any:
    if all(type(key) is str for key in value) and KEY not in value:
        return {key: _plain(inner, blocks, f"{place}[{key!r}]") for key, inner in value.items()}
    pairs = [(_plain(key, blocks, place), _plain(inner, blocks, f"{place}[{key!r}]")) for key, inner in value.items()]
    return {KEY: "dict", "items": pairs}


def _array(value: Any, blocks: dict[str, Block], place: str) -> Any:
    library = type(value).__module__.partition(".")[0]
    dtype = getattr(value, "dtype", "")
    kind = KINDS.get(getattr(dtype, "name", str(dtype).removeprefix("torch.")))
    if hasattr(value, "data_ptr") and kind and "strided" in str(value.layout):
        # A parameter is a tensor too, by whatever library it was subclassed.
        return {KEY: "torch", "name": _added(blocks, Block(kind, tuple(value.shape), _memory_of(value)))}
    if library == "numpy" and kind:
        content = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
        return {KEY: "numpy", "name": _added(blocks, Block(kind, tuple(value.shape), content))}
    raise CannotSave(
        f"{place} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold: give "
        "dicts, lists, tuples, strings, bytes, numbers, None, torch tensors and NumPy arrays."
    )


def _memory_of(tensor: Any) -> bytes | memoryview:
    """The bytes of a tensor, without NumPy, which may not be there, and has no word for bfloat16."""
    flat = tensor.detach().to("cpu").contiguous()
    size = flat.numel() * flat.element_size()
    if not size:
        return b""
    memory = (ctypes.c_char * size).from_address(flat.data_ptr())
    memory.owner = flat  # lives for as long as somebody looks at its bytes
    return memoryview(memory).cast("B")


def _added(blocks: dict[str, Block], block: Block) -> str:
    name = f"{len(blocks):06d}"
    blocks[name] = block
    return name


def _read(file: BinaryIO, base: int, entry: Mapping[str, Any]) -> Block:
    start, end = entry["data_offsets"]
    file.seek(base + start)
    content = bytearray(file.read(end - start))
    if len(content) != end - start:
        raise DamagedFile("It is cut off.")
    return Block(entry["dtype"], tuple(entry["shape"]), memoryview(content))


def _valued(tree: Any, blocks: Mapping[str, Block]) -> Any:
    if isinstance(tree, list):
        return [_valued(item, blocks) for item in tree]
    if not isinstance(tree, dict):
        return tree
    match tree.get(KEY):
        case None:
            return {key: _valued(item, blocks) for key, item in tree.items()}
        case "tuple":
            return tuple(_valued(item, blocks) for item in tree["items"])
        case "dict":
            return {_valued(key, blocks): _valued(item, blocks) for key, item in tree["items"]}
        case "float":
            return float(tree["value"])
        case "bytes":
            return bytes(blocks[tree["name"]].content)
        case "torch":
            return _tensor(blocks[tree["name"]])
        case "numpy":
            return _ndarray(blocks[tree["name"]])
        case other:
            raise DamagedFile(f"It has a value of a kind that this version does not know: {other!r}.")


def _tensor(block: Block) -> Any:
    torch = import_module("torch")
    kind = getattr(torch, NAMES[block.kind])
    if not block.content:
        return torch.empty(block.shape, dtype=kind)
    return torch.frombuffer(block.content, dtype=kind).reshape(block.shape)


def _ndarray(block: Block) -> Any:
    numpy = import_module("numpy")
    kind = numpy.dtype(NAMES[block.kind]).newbyteorder("<")
    found = numpy.frombuffer(block.content, kind).reshape(block.shape)
    return found if found.ndim else found[()]
