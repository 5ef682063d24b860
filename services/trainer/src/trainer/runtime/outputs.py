"""What an attempt leaves in its folder: files with their digests, and the result, whole or not at all."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import models
from models.formats import digest_of
from trainer import runtime
from trainer.domain.attempts import ONNX_FILE, RESULT_FILE, SKOPS_FILE, AttemptResult, ModelOutput, OutputFile

DEPENDED_ON = ("numpy", "scikit-learn", "skops", "skl2onnx", "onnx", "onnxruntime")
FORMATS = (("skops", SKOPS_FILE), ("onnx", ONNX_FILE))


def model_of(
    folder: Path,
    *,
    signature: dict[str, Any],
    twin: dict[str, Any],
    parameters: dict[str, Any],
    input_example: Iterable[dict[str, Any]],
) -> ModelOutput:
    """The model's files as they are, and what is to be known of them."""
    files = []
    for name, path in FORMATS:
        if (folder / path).exists():
            content = (folder / path).read_bytes()
            files.append(OutputFile(format=name, path=path, digest=digest_of(content), size=len(content)))
    return ModelOutput(
        files=tuple(files),
        signature=signature,
        twin=twin,
        parameters=parameters,
        input_example=tuple(input_example),
        environment=versions(),
        code_digest=code_digest(),
    )


def write_result(folder: Path, result: AttemptResult) -> None:
    """By renaming a file that is on the disk: a reader sees all of it or none."""
    staged = folder / f"{RESULT_FILE}.part"
    with staged.open("w") as file:
        json.dump(result.to_json(), file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(folder / RESULT_FILE)


@cache
def versions() -> dict[str, str]:
    """What the model was made with."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in DEPENDED_ON}


@cache
def code_digest() -> str:
    """The digest of the platform's code that trains: the library of models, and this program."""
    digest = hashlib.sha256()
    for package in (models, runtime):
        for folder in map(Path, package.__path__):
            for file in sorted(folder.glob("*.py")):
                digest.update(f"{package.__name__}/{file.name}\0".encode())
                digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"
