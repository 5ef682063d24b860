"""A revision: what the references of a deployment meant at one moment. It never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from kit import errors
from models.signature import Signature

SERVED = ("onnx", "skops")
"""The formats that a replica can load, the best first."""


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

    @classmethod
    def of(cls, found: Mapping[str, Any], weight: int) -> Self:
        """Of a model version as the registry describes it.

        Raises:
            NotServable: it has no form that can be loaded here, or no signature.
        """
        named = f"{found['model']}@{found['version']}"
        by_format = {file["format"]: file for file in found["formats"]}
        chosen = next((by_format[name] for name in SERVED if name in by_format), None)
        if chosen is None:
            raise NotServable(f"{named} has no form that can be served, which are {' and '.join(SERVED)}.")
        try:
            Signature.from_json(found["signature"])
        except errors.Invalid as exc:
            raise NotServable(f"The signature of {named} is not understood: {exc.detail}") from None
        return cls(
            model=found["model"],
            version=found["version"],
            digest=found["digest"],
            weight=weight,
            file=File(chosen["format"], chosen["path"], chosen["digest"], chosen["size"]),
            signature=found["signature"],
            example=tuple(found.get("input_example") or ()),
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `to_json` made; what a later version of it adds is left alone."""
        file = value["file"]
        return cls(
            **{name: value[name] for name in ("model", "version", "digest", "weight", "signature")},
            file=File(file["format"], file["path"], file["digest"], file["size"]),
            example=tuple(value["example"]),
        )

    def to_json(self) -> dict[str, Any]:
        """For the database and the disk."""
        return {**asdict(self), "example": [dict(row) for row in self.example]}

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells two targets apart. A version's signature and example never change, but a database may write their
        numbers in another way."""
        return self.model, self.version, self.digest, self.weight, self.file

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
