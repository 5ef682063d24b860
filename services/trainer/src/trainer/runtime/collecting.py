"""What a program has left in its outputs: taken without trust, since it may be a link, a device, or no end of bytes."""

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.domain import programs
from trainer.domain.attempts import ModelOutput, OutputFile
from trainer.domain.programs import Told

DESCRIPTION = 1 << 20
"""Bytes of model.json."""
CHUNK = 1 << 20
MAX_FILES = 8
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"


class Refused(Exception):
    """The program's outputs are not what they have to be. Text for its author."""


def collect(work: Path, told: Told) -> tuple[ModelOutput, dict[str, float]] | None:
    """The model that was saved, its files moved away from where the program could write, and its metrics.

    Raises:
        Refused: there is something, and it is no model.
    """
    outputs = os.open(work / programs.RUN / programs.OUTPUTS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            folder = os.open(programs.MODEL, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outputs)
        except FileNotFoundError:
            return None
        except OSError:
            raise Refused("outputs/model is no folder.") from None
        try:
            return _collect(work, told, folder)
        finally:
            os.close(folder)
    finally:
        os.close(outputs)


def _collect(work: Path, told: Told, folder: int) -> tuple[ModelOutput, dict[str, float]] | None:
    try:
        said = _described(folder)
    except FileNotFoundError:
        return None
    (work / programs.COLLECTED).mkdir(exist_ok=True)
    formats = said.get("formats")
    if not isinstance(formats, list) or not 1 <= len(formats) <= MAX_FILES:
        raise Refused(f"model.json names 1 to {MAX_FILES} files in its formats.")
    files = tuple(_take(work, folder, each) for each in formats)
    bundle, signature = told.bundle, _mapping(said.get("signature"), "signature")
    own = _mapping(said.get("parameters"), "parameters")
    # What a model was trained with is said once more than by its job: that may be deleted.
    parameters = {"parameters": dict(bundle.parameters), "seed": bundle.seed, "entrypoint": bundle.entrypoint, **own}
    example = said.get("input_example") or []
    if not isinstance(example, list) or not all(isinstance(row, dict) for row in example):
        raise Refused("The input_example of model.json is a list of objects.")
    output = ModelOutput(
        files=files,
        signature=signature,
        twin={},
        parameters=parameters,
        input_example=tuple(example[:100]),
        environment=dict(told.python.versions),
        code_digest=bundle.bundle,
        task=str(said.get("task") or signature.get("task") or "tensors")[:100],
    )
    return output, _metrics(_mapping(said.get("metrics"), "metrics"))


def _described(folder: int) -> dict[str, Any]:
    descriptor = _open(folder, programs.MODEL_FILE)
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(DESCRIPTION + 1)
    if len(text) > DESCRIPTION:
        raise Refused(f"model.json has {DESCRIPTION >> 10} KiB at most.")
    try:
        said = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused("model.json is no JSON.") from None
    if not isinstance(said, dict):
        raise Refused("model.json is no object.")
    return said


def _no_number(name: str) -> float:
    raise ValueError(name)


def _open(folder: int, name: str) -> int:
    """
    Raises:
        FileNotFoundError: there is none.
        Refused: it is no plain file, or has another name elsewhere.
    """
    try:
        # Not blocked by a pipe that nobody writes.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError:
        raise Refused(f"outputs/model/{name} is a link, or cannot be read.") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise Refused(f"outputs/model/{name} is no plain file of its own.")
    return descriptor


def _take(work: Path, folder: int, said: Any) -> OutputFile:
    path, kind = (said.get("path"), said.get("format")) if isinstance(said, dict) else (None, None)
    if not isinstance(path, str) or not path or path[0] == "." or set(path) - set(_PLAIN) or len(path) > 128:
        raise Refused("The path of a format is a plain file name in outputs/model.")
    if not isinstance(kind, str) or path == programs.MODEL_FILE:
        raise Refused(f"The format of {path!r} is not said.")
    try:
        descriptor = _open(folder, path)
    except FileNotFoundError:
        raise Refused(f"outputs/model/{path} is not there.") from None
    size, found = 0, hashlib.sha256()
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            found.update(chunk)
    # Nobody writes any more: what was read is what is moved.
    os.rename(path, work / programs.COLLECTED / path, src_dir_fd=folder)
    return OutputFile(format=kind, path=path, digest=f"sha256:{found.hexdigest()}", size=size)


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"The {name} of model.json are no object.")
    return value


def _metrics(said: Mapping[str, Any]) -> dict[str, float]:
    found = dict[str, float]()
    for name, value in list(said.items())[:1000]:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Refused(f"The metric {name[:100]!r} of model.json is no finite number.")
        found[name[:255]] = float(value)
    return found
