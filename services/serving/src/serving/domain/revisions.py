"""A revision: what the references of a deployment meant at one moment. It never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from kit import errors
from models.tensor_signature import signature_of_json

SERVED = ("onnx", "skops", "safetensors", "lightgbm", "xgboost", "pt2")
"""The formats that a replica can load, the best first."""
TABULAR = frozenset({"skops"})
"""Those whose models take columns, and no tensors."""
USER = "user"
"""Where a file is from that somebody has sent; of all others it is `platform`."""


class NotServable(errors.Invalid):
    """A model version that nothing here can load."""


class SignaturesDiffer(errors.Invalid):
    """Models of one deployment take different columns, or do different tasks."""


@dataclass(frozen=True)
class File:
    """One form of a model version."""

    format: str
    path: str
    digest: str
    size: int
    origin: str = "platform"
    """Who wrote it: this platform, or a user."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """As the registry has it, or a row. Rows from before there were uploads say no origin."""
        origin = value.get("origin") or "platform"
        return cls(value["format"], value["path"], value["digest"], value["size"], origin)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model version that answers, with all that a replica needs to load it."""

    model: str
    version: int
    digest: str
    weight: int
    file: File
    signature: Mapping[str, Any]
    example: Sequence[Mapping[str, Any]] = ()
    """Rows to warm with."""
    architecture: Mapping[str, Any] | None = None
    """Of what a file of weights holds the weights."""
    attestations: Sequence[Mapping[str, Any]] = ()
    """Who says that the file is this version (kit.attestations)."""

    @classmethod
    def of(cls, found: Mapping[str, Any], weight: int) -> Self:
        """Of a model version as the registry describes it.

        Raises:
            NotServable: it has no form that can be loaded here, or no signature.
        """
        named = f"{found['model']}@{found['version']}"
        try:
            signature = signature_of_json(found["signature"])
        except errors.Invalid as exc:
            raise NotServable(f"The signature of {named} is not understood: {exc.detail}") from None
        by_format = {file["format"]: file for file in found["formats"]}
        fitting = [name for name in SERVED if signature.task != "tensors" or name not in TABULAR]
        chosen = next((by_format[name] for name in fitting if name in by_format), None)
        if chosen is None:
            raise NotServable(f"{named} has no form that can be served, which are {', '.join(fitting)}.")
        return cls(
            model=found["model"],
            version=found["version"],
            digest=found["digest"],
            weight=weight,
            file=File.from_json(chosen),
            signature=found["signature"],
            example=tuple(found.get("input_example") or ()),
            architecture=_architecture(found.get("parameters")),
            attestations=tuple(found.get("attestations") or ()),
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `to_json` made; what a later version of it adds is left alone."""
        return cls(
            **{name: value[name] for name in ("model", "version", "digest", "weight", "signature")},
            file=File.from_json(value["file"]),
            example=tuple(value["example"]),
            architecture=value.get("architecture"),
            attestations=tuple(value.get("attestations") or ()),
        )

    def to_json(self) -> dict[str, Any]:
        """For the database and the disk."""
        return {
            **asdict(self),
            "example": [dict(row) for row in self.example],
            "attestations": [dict(it) for it in self.attestations],
        }

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells two targets apart. A version's signature and example never change, but a database may write their
        numbers in another way. Who has signed it is part of that: a replica may have waited for a signature."""
        return self.model, self.version, self.digest, self.weight, self.file, self._keys

    @property
    def _keys(self) -> frozenset[str]:
        return frozenset(str(one["keyid"]) for envelope in self.attestations for one in envelope["signatures"])

    def order(self, path: Path) -> dict[str, Any]:
        """What a runner child is told to load it, from the file at this path."""
        return {
            "path": str(path),
            "digest": self.file.digest,
            "format": self.file.format,
            "signature": dict(self.signature),
            "architecture": None if self.architecture is None else dict(self.architecture),
            "example": [dict(row) for row in self.example[:1]],
        }

    @property
    def reference(self) -> str:
        """As holds name it."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class Revision:
    """Counted from 1 within its deployment."""

    number: int
    targets: tuple[Target, ...]
    created_at: datetime | None = None


def _architecture(parameters: Any) -> Mapping[str, Any] | None:
    said = parameters.get("architecture") if isinstance(parameters, Mapping) else None
    return said if isinstance(said, Mapping) else None


def is_same(first: Sequence[Target], second: Sequence[Target]) -> bool:
    """Whether two revisions would serve the same."""
    return [target.identity for target in first] == [target.identity for target in second]


def require_alike(targets: Sequence[Target]) -> None:
    """One request must fit all models of a deployment, whichever of them it meets.

    Raises:
        SignaturesDiffer: it would not.
    """
    first, *others = targets
    for index, other in enumerate(others, start=1):
        if any(first.signature[part] != other.signature[part] for part in ("inputs", "task")):
            detail = f"{other.reference} takes other columns, or does another task, than {first.reference}"
            raise SignaturesDiffer(f"{detail}.", errors=[{"pointer": f"#/models/{index}/model", "detail": detail}])
