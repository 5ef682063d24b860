"""The manifest of a model version: what it is made of, by digest, and where it comes from.

Its digest covers what makes the model what it is: the files, the signature, the dataset, the task and the parameters.
It covers no job, no time, no environment, no metric and no verdict, so that the same model trained again is the same
version. It is the SHA-256 of this document as canonical JSON (members sorted, no spaces, ASCII only):

    {"dataset": <digest>, "formats": [{"digest", "format", "path", "size"}, … by path], "manifest": 1,
     "parameters": {…}, "signature": {…}, "task": …}

Of what a user pushed, `dataset` is null, and each of `formats` has the member `"origin": "user"` too.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from kit import errors
from registry.domain.signatures import GREATEST, SMALLEST, AnySignature, Part, Word

EDITION = 1
LARGEST = 512 << 10
"""Bytes of a manifest."""
_PATH = re.compile(r"[A-Za-z0-9](?!.*\.\.)([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


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
        case int() if not SMALLEST <= value <= GREATEST:
            raise ValueError("a whole number has 64 bits at most")
        case dict():
            for member in value.values():
                _is_exact(member)
        case list():
            for item in value:
                _is_exact(item)
    return value


Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Json = Annotated[dict[str, Any], AfterValidator(_is_exact)]
Example = Annotated[list[Json], Field(max_length=100)]
Source = Annotated[str, StringConstraints(max_length=2000)]
Format = Literal["skops", "onnx", "pt2", "safetensors", "lightgbm", "xgboost"]


class File(Part):
    """One file of the model, in one format. Pickles are none."""

    format: Format
    path: Annotated[str, AfterValidator(_is_plain)]
    digest: Digest
    size: Annotated[int, Field(ge=0, lt=2**40)]
    # Left out where it says nothing: what was registered before there was an origin keeps its digest.
    origin: Annotated[Literal["user"] | None, Field(exclude_if=lambda origin: origin is None)] = None
    """`user`: somebody sent it. Nothing: this platform has written it."""


class Lineage(Part):
    """Where the model comes from."""

    dataset: Annotated[str, StringConstraints(pattern="^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?@[1-9][0-9]{0,8}$")]
    dataset_digest: Digest
    job: Annotated[str, StringConstraints(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    attempt: Annotated[int, Field(ge=1, lt=2**31)]
    code_digest: Digest
    environment: Annotated[dict[Word, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=200)]


class Twin(Part):
    """Whether the ONNX twin agreed with its original and was kept, and why."""

    kept: bool
    reason: Annotated[str, StringConstraints(max_length=2000)]
    tolerance: Annotated[Finite, Field(ge=0)]
    max_difference: Annotated[Finite, Field(ge=0)] | None = None


class Pushed(Part):
    """Where a model comes from that was made elsewhere: what its owner says of it, and who that was."""

    source: Source = ""
    by: Annotated[str, StringConstraints(max_length=256)]


class _Model(Part):
    """What can be said of any model."""

    formats: Annotated[list[File], Field(min_length=1, max_length=8)]
    signature: AnySignature
    parameters: Json = Field(default={})
    metrics: dict[Word, Finite] = Field(default={}, max_length=1000)
    input_example: Example = Field(default=[])


class Manifest(_Model):
    task: Literal["classification", "regression", "tensors"]
    lineage: Lineage | Pushed
    twin: Twin | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.signature.task != self.task:
            raise ValueError("the signature is one of another task")
        _check_files(self.formats, self.twin)
        return self

    def document(self) -> dict[str, Any]:
        """As JSON, with every default written out."""
        return self.model_dump(mode="json")

    @property
    def dataset_digest(self) -> str | None:
        """Of what the model was trained on, if this platform has trained it."""
        return self.lineage.dataset_digest if isinstance(self.lineage, Lineage) else None


class Trained(Manifest):
    """What the trainer says of a model that a job of this platform has made."""

    lineage: Lineage

    @model_validator(mode="after")
    def _is_our_own(self) -> Self:
        if any(file.origin for file in self.formats):
            raise ValueError("a file that a job has made is no user's")
        return self


class Origin(Part):
    """Where a model comes from, in its owner's words."""

    source: Source = ""


class Push(_Model):
    """What a user says of a model that was made elsewhere. Every file of it is taken for a user's."""

    lineage: Origin = Origin()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        _check_files(self.formats, None)
        if any(file.format == "safetensors" for file in self.formats):
            _check_architecture(self.parameters.get("architecture"))
        _check_example(self.input_example, {part.name for part in self.signature.inputs})
        return self

    def manifest(self, by: str) -> Manifest:
        """Of the version that it becomes."""
        said = self.model_dump(exclude={"formats", "lineage"})
        return Manifest(
            **said,
            formats=[file.model_copy(update={"origin": "user"}) for file in self.formats],
            task=self.signature.task,
            lineage=Pushed(source=self.lineage.source, by=by[:256]),
        )


def _check_files(files: Sequence[File], twin: Twin | None) -> None:
    kinds = {file.format for file in files}
    # Some who download them have a disk that does not tell cases apart.
    if len(kinds) != len(files) or len({file.path.lower() for file in files}) != len(files):
        raise ValueError("each format, and each path, is there once")
    if twin is not None and "skops" not in kinds:
        raise ValueError("a twin has an original: a file of format skops")
    if "skops" in kinds and ("onnx" in kinds) != (twin is not None and twin.kept):
        raise ValueError("an onnx file is beside a skops file exactly when a verdict has kept it as the twin")


def _check_architecture(architecture: Any) -> None:
    if not isinstance(architecture, dict) or not isinstance(architecture.get("name"), str):
        raise ValueError(
            "safetensors are weights alone: parameters.architecture says what they are the weights of, such as "
            '{"name": "mlp", "sizes": [784, 128, 10], "activation": "relu"}'
        )


def _check_example(rows: Sequence[dict[str, Any]], names: set[str]) -> None:
    # Serving warms models with them: one that does not fit would keep the model from ever being ready.
    if any(not row or row.keys() - names for row in rows):
        raise ValueError("a row of the input_example has an input's name for each member")


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
        "dataset": manifest.dataset_digest,
        "task": manifest.task,
        "parameters": document["parameters"],
    }
    return f"sha256:{hashlib.sha256(canonical(covered)).hexdigest()}"
