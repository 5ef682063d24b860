"""The manifest of a model version: what it is made of, by digest, and where it comes from.

Its digest covers what makes the model what it is: the files, the signature, the dataset, the task and the parameters.
It covers no job, no time, no environment, no metric and no verdict, so that the same model trained again is the same
version. It is the SHA-256 of this document as canonical JSON (members sorted, no spaces, ASCII only):

    {"dataset": <digest>, "formats": [{"digest", "format", "path", "size"}, … by path], "manifest": 1,
     "parameters": {…}, "signature": {…}, "task": …}
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from kit import errors

EDITION = 1
LARGEST = 512 << 10
"""Bytes of a manifest."""
_PATH = re.compile(r"[A-Za-z0-9](?!.*\.\.)([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_SMALLEST, _GREATEST = -(2**63), 2**63 - 1


class ManifestTooLarge(errors.Invalid): ...


def _is_plain(path: str) -> str:
    # It becomes a name in folders and in headers of those who download it.
    if not _PATH.fullmatch(path):
        raise ValueError(
            "a path is a plain file name: 1 to 128 characters A-Z, a-z, 0-9, '.', '_' and '-' without '..', "
            "the first and the last a letter or a digit"
        )
    return path


def _is_exact(value: Any) -> Any:
    """Refuse whole numbers that readers of JSON would round."""
    match value:
        case int() if not _SMALLEST <= value <= _GREATEST:
            raise ValueError("a whole number has 64 bits at most")
        case dict():
            for member in value.values():
                _is_exact(member)
        case list():
            for item in value:
                _is_exact(item)
    return value


Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Json = Annotated[dict[str, Any], AfterValidator(_is_exact)]
Task = Literal["classification", "regression"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class File(_Part):
    """One file of the model, in one format. Pickles are none."""

    format: Literal["skops", "onnx"]
    path: Annotated[str, AfterValidator(_is_plain)]
    digest: Digest
    size: Annotated[int, Field(ge=0, lt=2**40)]


class Column(_Part):
    """What goes in, or comes out."""

    name: Word
    type: Literal["number", "integer", "string", "boolean", "timestamp"]
    nullable: bool = False


Columns = Annotated[list[Column], Field(max_length=2000)]
Class = Annotated[int, Field(ge=_SMALLEST, le=_GREATEST)] | bool | Annotated[str, StringConstraints(max_length=1024)]


class Signature(_Part):
    inputs: Columns
    outputs: Columns
    task: Task
    classes: Annotated[list[Class], Field(max_length=10_000)] = []
    """In the order of the scores; of a regression there are none."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        names = [column.name for column in self.inputs]
        if not names or len(set(names)) != len(names):
            raise ValueError("a signature has at least one input, and each name once")
        if (self.task == "classification") != (len(self.classes) > 1):
            raise ValueError("a classification has two classes or more, a regression none")
        if len({type(each) for each in self.classes}) > 1 or len(set(self.classes)) != len(self.classes):
            raise ValueError("classes are all of one type, and each is there once")
        return self


class Lineage(_Part):
    """Where the model comes from."""

    dataset: Annotated[str, StringConstraints(pattern="^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?@[1-9][0-9]{0,8}$")]
    dataset_digest: Digest
    job: Annotated[str, StringConstraints(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    attempt: Annotated[int, Field(ge=1, lt=2**31)]
    code_digest: Digest
    environment: Annotated[dict[Word, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=200)]


class Twin(_Part):
    """Whether the ONNX twin agreed with its original and was kept, and why."""

    kept: bool
    reason: Annotated[str, StringConstraints(max_length=2000)]
    tolerance: Annotated[Finite, Field(ge=0)]
    max_difference: Annotated[Finite, Field(ge=0)] | None = None


class Manifest(_Part):
    formats: Annotated[list[File], Field(min_length=1, max_length=8)]
    signature: Signature
    task: Task
    parameters: Json = {}
    metrics: Annotated[dict[Word, Finite], Field(max_length=1000)] = {}
    lineage: Lineage
    twin: Twin | None = None
    input_example: Annotated[list[Json], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.signature.task != self.task:
            raise ValueError("the signature is one of another task")
        _check_files(self.formats, self.twin)
        return self

    def document(self) -> dict[str, Any]:
        """As JSON, with every default written out."""
        return self.model_dump(mode="json")


def _check_files(files: Sequence[File], twin: Twin | None) -> None:
    kinds = {file.format for file in files}
    # Some who download them have a disk that does not tell cases apart.
    if len(kinds) != len(files) or len({file.path.lower() for file in files}) != len(files):
        raise ValueError("each format, and each path, is there once")
    if twin is not None and "skops" not in kinds:
        raise ValueError("a twin has an original: a file of format skops")
    if "skops" in kinds and ("onnx" in kinds) != (twin is not None and twin.kept):
        raise ValueError("an onnx file is beside a skops file exactly when a verdict has kept it as the twin")


def canonical(document: object) -> bytes:
    """The one way to write a JSON document. 1 and 1.0 stay two things: to a parameter they are."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def check_size(manifest: Manifest) -> None:
    """
    Raises:
        ManifestTooLarge: it is no manifest any more, but data.
    """
    if len(canonical(manifest.document())) > LARGEST:
        raise ManifestTooLarge(f"A manifest has {LARGEST} bytes at most.")


def version_digest(manifest: Manifest) -> str:
    """Names what the model is, whoever made it and whenever."""
    document = manifest.document()
    covered = {
        "manifest": EDITION,
        "formats": sorted(document["formats"], key=lambda file: str(file["path"])),
        "signature": document["signature"],
        "dataset": manifest.lineage.dataset_digest,
        "task": manifest.task,
        "parameters": document["parameters"],
    }
    return f"sha256:{hashlib.sha256(canonical(covered)).hexdigest()}"
