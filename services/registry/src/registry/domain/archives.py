"""ZIP files of models by their structure: what they hold is listed strictly, and nothing of it is loaded.

Two readers must see the same files in it: no bytes before, between or behind its entries, no name twice, no way out of
the folder. What would unpack to more than a model may be is refused unread.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO

from registry.domain.documents import LONGEST, document_of
from registry.domain.findings import Unsafe, Wrong

LARGEST = 4 << 30
"""Bytes that all entries may unpack to."""
LONGEST_LIST = 8 << 20
MOST_ENTRIES = 60_000
"""A forest of 300 trees has 1,500 arrays in a skops file."""
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1
_PICKLED = re.compile(r"(^|/)[^/]*\.(pkl|pickle|joblib|dill|cloudpickle)$", re.IGNORECASE)
_H5 = re.compile(r"\.(h5|hdf5|keras)$", re.IGNORECASE)
# Below the one folder that all of it is in. Sample inputs are pickled tensors by that format's own rule: they are no
# part of the model, and whoever loads it leaves them alone.
_PT2 = re.compile(
    r"archive_format|archive_version|byteorder|version|module_info|\.format_version|\.storage_alignment|\.data/[^/]+"
    r"|models/[^/]+\.json|data/weights/[^/]+|data/constants/[^/]+|data/sample_inputs/[^/]+\.pt|extra/[^/]+"
)
_CONFIG = re.compile(r"data/(weights|constants)/[^/]+_config\.json")
_CODE = re.compile(r"data/(aotinductor|executorch|xl_model_weights)/|data/constants/(custom|opaque)_obj_")
_LOADERS = frozenset(
    f"{kind}Node"
    for kind in (
        *("Bytearray", "Bytes", "Cached", "ConstructorFromReduce", "DType", "DefaultDict", "Dict", "Function", "Json"),
        *("List", "Loss", "MaskedArray", "NdArray", "Object", "OperatorFunc", "Partial", "RandomGenerator"),
        *("RandomState", "SGD", "Set", "Slice", "SparseMatrix", "Tree", "Tuple", "Type"),
    )
)
"""The kinds of nodes that models are written with."""
_FROM = frozenset(
    ("builtins", "collections", "functools", "lightgbm", "models", "numpy", "operator", "scipy", "sklearn", "xgboost")
)
"""Packages of which a model's types may be. Which of their types exactly is said where a model is loaded."""
_BUILTINS = frozenset(
    ("NoneType", "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range", "set")
) | {"slice", "str", "tuple"}


def find_pickles(file: BinaryIO, size: int) -> None:
    """
    Raises:
        Unsafe: there are pickles in the archive, or what Keras runs.
        Wrong: it is no archive that two readers would read alike.
    """
    names = [entry.filename for entry in open_archive(file, size).infolist()]
    if pickled := next((name for name in names if _PICKLED.search(name)), None):
        raise Unsafe(f"an archive with a pickle in it ({pickled[:100]}), as torch.save and TorchScript write it")
    if any(_H5.search(name) for name in names):
        raise Unsafe("an archive as Keras writes it")


def check_skops(file: BinaryIO, size: int) -> None:
    """
    Raises:
        Wrong: it is no skops file, or holds a type that no model has.
    """
    archive = open_archive(file, size)
    names = {entry.filename for entry in archive.infolist()}
    if "schema.json" not in names or any(
        "/" in name or not name.endswith((".json", ".npy", ".npz", ".bin")) for name in names
    ):
        raise Wrong("it holds no schema.json, or more than that and arrays")
    schema = read_json(archive, "schema.json")
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise Wrong("its schema.json describes no object")
    for node in _nodes_of(schema):
        _check_node(node, names)
    # In the order in which they lie there: of a stored file, what is between two of them is not read twice.
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        _refuse_objects(archive, entry.filename)


def check_pt2(file: BinaryIO, size: int) -> None:
    """
    Raises:
        Unsafe: something in it is pickled, or is code.
        Wrong: it is not what torch.export.save writes.
    """
    archive = open_archive(file, size)
    names = [entry.filename for entry in archive.infolist()]
    root = f"{names[0].partition('/')[0]}/" if names else ""
    inner = [name.removeprefix(root) for name in names]
    _check_locals(file, archive.infolist())
    if not all(name.startswith(root) for name in names) or "archive_format" not in inner:
        raise Wrong("it is not an archive of torch.export.save (with torch 2.8 or newer)")
    if found := next((name for name in inner if _CODE.match(name)), None):
        raise Unsafe(f"an archive with pickled objects or compiled code in it ({found[:100]})")
    if strange := next((name for name in inner if not _PT2.fullmatch(name)), None):
        raise Wrong(f"it holds {strange[:100]!r}, which is no part of such an archive")
    if read_some(archive, f"{root}archive_format", 16).strip() != b"pt2":
        raise Wrong("its archive_format is not pt2")
    if not any(name.startswith("models/") for name in inner):
        raise Wrong("there is no model in it")
    for name in inner:
        if _CONFIG.fullmatch(name) and any(
            node.get("use_pickle") for node in _nodes_of(read_json(archive, root + name))
        ):
            raise Unsafe(f"an archive with pickled tensors in it ({name[:100]})")


def open_archive(file: BinaryIO, size: int, largest: int = LARGEST) -> zipfile.ZipFile:
    """
    Raises:
        Wrong: it is no ZIP file, or one that two readers would read in two ways.
    """
    file.seek(0)
    begins = file.read(4)
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if begins != b"PK\3\4" or len(end) != _END.size or end[:4] != b"PK\5\6":
        raise Wrong("it is no ZIP file, or is cut off, or has something before or behind its entries")
    entries, listed = _END.unpack(end)[4:6]
    if entries > MOST_ENTRIES or listed > LONGEST_LIST:
        raise Wrong(f"it holds more than {MOST_ENTRIES} files")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError, struct.error):
        raise Wrong("it is no ZIP file, or is damaged") from None
    _check_entries(archive.infolist(), archive.start_dir, largest)
    return archive


def _check_entries(entries: list[zipfile.ZipInfo], end: int, largest: int) -> None:
    if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > largest:
        raise Wrong(f"it unpacks to more than {MOST_ENTRIES} files, or to more than {largest} bytes")
    if len({entry.filename.lower() for entry in entries}) != len(entries):
        raise Wrong("a name is there twice")
    for entry in entries:
        if not _is_inside(entry) or entry.is_dir():
            raise Wrong(f"{entry.filename[:100]!r} is no name of a file in it")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Wrong("something in it is encrypted, or packed in another way than `deflate`")
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < at or (at == 0 and entry.header_offset):
            raise Wrong("its entries overlap, or there is something before them")
        at = entry.header_offset + _LOCAL.size + entry.compress_size
    if at > end:
        raise Wrong("its entries overlap with their list")


def _check_locals(file: BinaryIO, entries: Iterable[zipfile.ZipInfo]) -> None:
    """What stands before an entry names it as the list does: some read the one, some the other."""
    for entry in entries:
        file.seek(entry.header_offset)
        raw = file.read(_LOCAL.size)
        if len(raw) != _LOCAL.size or raw[:4] != b"PK\3\4":
            raise Wrong("its list names an entry that is not there")
        name = file.read(_LOCAL.unpack(raw)[9])
        if name not in (entry.orig_filename.encode(), entry.orig_filename.encode("cp437", "replace")):
            raise Wrong("an entry has another name than its list says")


def _is_inside(entry: zipfile.ZipInfo) -> bool:
    name = entry.orig_filename
    parts = name.split("/")
    return (
        name == entry.filename
        and 0 < len(name) <= 512
        and name.isprintable()
        and "\\" not in name
        and ":" not in name
        and not any(part in ("", ".", "..") for part in parts)
    )


def read_some(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The beginning of an entry, whatever it claims to unpack to.

    Raises:
        Wrong: it cannot be unpacked.
    """
    try:
        with archive.open(name) as entry:
            return entry.read(limit)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, RuntimeError):
        raise Wrong(f"{name[:100]!r} in it is damaged") from None


def read_json(archive: zipfile.ZipFile, name: str, longest: int = LONGEST) -> Any:
    """
    Raises:
        Wrong: it is not JSON, or longer than it may be.
    """
    raw = read_some(archive, name, longest + 1)
    if len(raw) > longest:
        raise Wrong(f"{name[:100]!r} in it has more than {longest} bytes")
    return document_of(raw, f"{name[:100]!r} in it")


def _nodes_of(document: Any) -> Iterable[dict[str, Any]]:
    """Every object in a document."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _check_node(node: dict[str, Any], names: set[str]) -> None:
    if "__loader__" not in node and "__class__" not in node:
        return
    module, kind = str(node.get("__module__")), str(node.get("__class__"))
    package = module.partition(".")[0]
    if package not in _FROM or (package == "builtins" and kind not in _BUILTINS):
        raise Wrong(f"it holds a {module[:100]}.{kind[:100]}, which is of no package that models are made of")
    if node.get("__loader__") not in _LOADERS:
        raise Wrong(f"it holds a {str(node.get('__loader__'))[:100]}, which no model has")
    if "file" in node and node["file"] not in names:
        raise Wrong("it names an array that is not in it")


def _refuse_objects(archive: zipfile.ZipFile, name: str) -> None:
    """An array of objects is a pickle with a header before it."""
    head = read_some(archive, name, 4096)
    if name.endswith(".npy") and (
        not head.startswith(b"\x93NUMPY") or re.search(rb"'descr':.*O'", head.split(b"\n")[0])
    ):
        raise Wrong(f"{name[:100]!r} in it is no array of numbers")
