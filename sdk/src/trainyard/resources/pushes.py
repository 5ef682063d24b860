"""Models that were made elsewhere, on their way into the registry: files first, then the version that names them."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard import onnx_files
from trainyard.errors import Invalid, NotFound, TrainyardError
from trainyard.results import ModelVersion
from trainyard.wire import Wire

CHUNK = 1 << 20
FORMATS = {
    ".onnx": "onnx",
    ".skops": "skops",
    ".pt2": "pt2",
    ".safetensors": "safetensors",
    ".lgb": "lightgbm",
    ".txt": "lightgbm",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".xgb": "xgboost",
}
UNSAFE = frozenset(
    (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".hdf5", ".keras", ".mar")
)
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+|\.(?=\.)")

Sent = Callable[[str, int], None]
"""Hears the name of a file, and how many bytes more of it are there."""


class NotAModel(TrainyardError):
    """What is to be pushed cannot be, and why; nothing was sent."""


class Pushes:
    """Of one client."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def push(
        self,
        name: str,
        files: Path | Sequence[Path],
        *,
        signature: Mapping[str, Any] | None = None,
        format: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        example: Sequence[Any] = (),
        source: str = "",
        sent: Sent | None = None,
    ) -> ModelVersion:
        """Send files, and make a version of them. See `Models.push`."""
        paths = [files] if isinstance(files, Path) else list(files)
        parts = [_part_of(path, format) for path in paths]
        found = dict(signature) if signature is not None else signature_of(paths, parts)
        body: dict[str, Any] = {
            "formats": parts,
            "signature": found,
            "parameters": {**(parameters or {}), **({"architecture": dict(architecture)} if architecture else {})},
            "metrics": dict(metrics or {}),
            "input_example": _rows_of(example, found),
            "lineage": {"source": source},
        }
        for path, part in zip(paths, parts, strict=True):
            self._send(name, path, part, sent, skip=True)
        try:
            return self._register(name, body)
        except Invalid as problem:
            if problem.code != "file-not-uploaded":
                raise
        # They were there, and have been collected since: nothing kept them yet.
        for path, part in zip(paths, parts, strict=True):
            self._send(name, path, part, None, skip=False)
        return self._register(name, body)

    def _register(self, name: str, body: Mapping[str, Any]) -> ModelVersion:
        return ModelVersion.of(self._wire.request("POST", f"/v1/models/{name}/versions", json=body).json())

    def _send(self, name: str, path: Path, part: Mapping[str, Any], sent: Sent | None, *, skip: bool) -> None:
        """One file, unless it is there already: after a cut only the rest is sent."""
        tell = sent or (lambda name, size: None)
        place = f"/v1/models/{name}/blobs/{part['digest']}"
        if skip and self._is_there(place):
            tell(path.name, part["size"])
            return

        def body() -> Iterator[bytes]:
            for chunk in _chunks(path):
                yield chunk
                tell(path.name, len(chunk))

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(part["size"])}
        self._wire.request("PUT", place, body=body, headers=headers)

    def _is_there(self, place: str) -> bool:
        try:
            self._wire.get(place)
        except NotFound:
            return False
        return True


def signature_of(paths: Sequence[Path], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As the files say it: of those that there are, only ONNX does."""
    for path, part in zip(paths, parts, strict=True):
        if part["format"] == "onnx":
            return onnx_files.signature_of(path)
    kinds = " and ".join(sorted({str(part["format"]) for part in parts}))
    raise NotAModel(
        f"A file of {kinds} does not say what it takes and gives. {onnx_files.INSTEAD} Such as "
        '{"task": "tensors", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], '
        '"outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]}, or with columns: '
        '{"task": "regression", "inputs": [{"name": "age", "type": "number"}], '
        '"outputs": [{"name": "value", "type": "number"}]}.'
    )


def _part_of(path: Path, format: str | None) -> dict[str, Any]:
    """A file as the manifest names it."""
    if not path.is_file():
        raise NotAModel(f"There is no file {path}.")
    suffix = path.suffix.lower()
    if format is None and suffix in UNSAFE:
        raise NotAModel(
            f"{path.name} runs code when it is loaded, or may: such files are not taken. Export the model as ONNX "
            "(skl2onnx.to_onnx, torch.onnx.export), skops (skops.io.dump), safetensors "
            "(safetensors.torch.save_file) or pt2 (torch.export.save)."
        )
    kind = format or FORMATS.get(suffix)
    if kind is None:
        known = ", ".join(sorted({*FORMATS.values()}))
        raise NotAModel(f"The name of {path.name} does not say of which format it is. Say it: format=… ({known}).")
    digest = hashlib.sha256()
    size = 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    if not size:
        raise NotAModel(f"{path} is empty.")
    return {"format": kind, "path": _plain(path.name), "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _plain(name: str) -> str:
    """A name as the registry takes it."""
    return _STRANGE.sub("-", name)[-128:].strip("._-") or "model"


def _rows_of(example: Sequence[Any], signature: Mapping[str, Any]) -> list[Any]:
    """Rows by the names of inputs; of a model with one input the values alone will do."""
    inputs = [part.get("name") for part in signature.get("inputs", ())]
    return [row if isinstance(row, Mapping) or len(inputs) != 1 else {inputs[0]: row} for row in example]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
