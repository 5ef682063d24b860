"""skops files: canonical bytes out, and nothing in but what this platform itself writes.

Two dumps of one object by skops differ: memory addresses are its ids and file names, and the archive holds the time.
A digest of such a file never repeats, so the archive is written anew: ids count in the order of the walk, arrays are
named by their content, the padding of records is zero, and the date is 1980. The result loads as before and is
several times smaller.

Loading walks the file's own description before skops may act on it: every class and every kind of node must be one
that a model of this platform has.
"""

import hashlib
import io
import json
import warnings
import zipfile
from typing import Any

import numpy as np
from skops import io as skops

from kit import errors
from models.skops_types import LOADERS, TRUSTED, TYPES

SCHEMA = "schema.json"
MAX_UNPACKED = 4 << 30
EPOCH = (1980, 1, 1, 0, 0, 0)


class ModelFileInvalid(errors.Corrupt):
    """The bytes are not a model that this platform wrote."""


def dumps(model: Any) -> bytes:
    """A fitted pipeline as bytes that depend on nothing but the pipeline."""
    with zipfile.ZipFile(io.BytesIO(skops.dumps(model))) as archive:
        schema = json.loads(archive.read(SCHEMA))
        arrays = {name: _canonical_array(archive.read(name)) for name in archive.namelist() if name != SCHEMA}
    names = {name: f"{hashlib.sha256(content).hexdigest()}.npy" for name, content in arrays.items()}
    _rewrite(schema, names, {})
    files = {SCHEMA: json.dumps(schema, separators=(",", ":")).encode()}
    files |= {names[name]: content for name, content in arrays.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=6)
    return packed.getvalue()


def load(content: bytes, *, digest: str | None = None) -> Any:
    """The pipeline in such a file; with a digest, only if the bytes are those that it names."""
    if digest is not None and digest != digest_of(content):
        raise ModelFileInvalid(f"The bytes are not those of {digest}.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED:
                raise ModelFileInvalid("The file unpacks to more than a model may be.")
            schema = json.loads(archive.read(SCHEMA))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise ModelFileInvalid("The file is not a skops file.") from error
    _require_known(schema)
    if _name_of(schema) != "sklearn.pipeline.Pipeline":
        raise ModelFileInvalid("The file does not hold a pipeline.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # another version of scikit-learn is not a warning here, it is a refusal
            return skops.loads(content, trusted=TRUSTED)
    except Exception as error:  # whatever building objects from damaged bytes may raise
        # A MemoryError says nothing but its name.
        raise ModelFileInvalid(f"The file cannot be loaded: {str(error) or type(error).__name__}") from error


def digest_of(content: bytes) -> str:
    """`sha256:<hex>`, as the registry names bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _canonical_array(content: bytes) -> bytes:
    """Records of trees have gaps between their fields, filled with whatever lay in memory: make them zero."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    packed = io.BytesIO()
    np.save(packed, clean, allow_pickle=False)
    return packed.getvalue()


def _rewrite(node: Any, names: dict[str, str], ids: dict[int, int]) -> None:
    if isinstance(node, dict):
        if "__loader__" in node:
            address = node.pop("__id__", None)
            # Whether two equal numbers or strings are one object is the interpreter's affair: they get no id.
            if address is not None and node["__loader__"] != "JsonNode":
                node["__id__"] = ids.setdefault(address, len(ids) + 1)
            if "file" in node:
                node["file"] = names[node["file"]]
        for child in node.values():
            _rewrite(child, names, ids)
    elif isinstance(node, list):
        for child in node:
            _rewrite(child, names, ids)


def _require_known(node: Any) -> None:
    if isinstance(node, dict):
        if "__class__" in node or "__loader__" in node:
            if _name_of(node) not in TYPES:
                raise ModelFileInvalid(f"The file holds a {_name_of(node)}, which no model of this platform has.")
            if node.get("__loader__") not in LOADERS:
                raise ModelFileInvalid(f"The file holds a {node.get('__loader__')}, which no model has.")
        for child in node.values():
            _require_known(child)
    elif isinstance(node, list):
        for child in node:
            _require_known(child)


def _name_of(node: Any) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}" if isinstance(node, dict) else ""
