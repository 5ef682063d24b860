"""The wire of the registry. What is registered is a domain.manifests.Manifest as it is."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from fastapi import Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from registry.domain.aliases import Alias, AliasNotFound, Move, Target, is_alias
from registry.domain.manifests import File, Lineage, Pushed, Twin
from registry.domain.models import Model, ModelNotFound, is_name
from registry.domain.signatures import Signature, TensorSignature
from registry.domain.versions import Version

T = TypeVar("T")


def _named(value: str) -> str:
    if not is_name(value):
        raise ValueError(
            "a name has 1 to 63 characters a-z, 0-9, '.', '_' and '-', and begins and ends with one of a-z0-9"
        )
    return value


def _alias(value: str) -> str:
    if not is_alias(value):
        raise ValueError(
            "an alias has 1 to 63 characters a-z, 0-9 and '-', begins and ends with one of a-z0-9, and is neither a "
            "number nor `latest`"
        )
    return value


async def _model_there(name: str) -> str:
    # What cannot be a name names nothing, and must not reach the database.
    if not is_name(name):
        raise ModelNotFound(f"There is no model {name[:100]!r}.")
    return name


async def _alias_there(alias: str) -> str:
    if not is_alias(alias):
        raise AliasNotFound(f"There is no alias {alias[:100]!r}.")
    return alias


NewName = Annotated[str, AfterValidator(_named)]
NewAlias = Annotated[str, AfterValidator(_alias)]
# Path parameters of what is only looked for: one that cannot be is not found.
NameDep = Annotated[str, Depends(_model_there)]
AliasDep = Annotated[str, Depends(_alias_there)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ModelIn(_In):
    name: NewName
    description: Annotated[str, StringConstraints(max_length=4096)] = ""


class AliasIn(_In):
    version: Annotated[int, Field(ge=1, le=999_999_999)]


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class BlobOut(BaseModel):
    digest: str
    size: int


class ModelOut(BaseModel):
    name: str
    description: str
    created_at: datetime

    @classmethod
    def of(cls, model: Model) -> Self:
        return cls(name=model.name, description=model.description, created_at=model.created_at)


class VersionOut(BaseModel):
    model: str
    version: int
    digest: str
    """Of what the model is: files, signature, dataset, task, parameters."""
    formats: list[File]
    signature: Signature | TensorSignature
    task: Literal["classification", "regression", "tensors"]
    parameters: dict[str, Any]
    metrics: dict[str, float]
    lineage: Lineage | Pushed
    """Of a model that a job has made: its dataset, job, code, environment. Of one that was pushed: who, and whence."""
    twin: Twin | None
    input_example: list[dict[str, Any]]
    attestations: list[dict[str, Any]]
    """DSSE envelopes of in-toto statements, each signed by another key: who says that these files are this version."""
    created_at: datetime

    @classmethod
    def of(cls, version: Version) -> Self:
        manifest = version.manifest
        return cls(
            model=version.model,
            version=version.number,
            digest=version.digest,
            formats=manifest.formats,
            signature=manifest.signature,
            task=manifest.task,
            parameters=manifest.parameters,
            metrics=manifest.metrics,
            lineage=manifest.lineage,
            twin=manifest.twin,
            input_example=manifest.input_example,
            attestations=[dict(it) for it in version.attestations],
            created_at=version.created_at,
        )


class DatasetOut(BaseModel):
    reference: str
    digest: str


class JobOut(BaseModel):
    id: str
    attempt: int


class CodeOut(BaseModel):
    digest: str


class LineageOut(BaseModel):
    """From which data, by which job, with which code and environment a version was made."""

    model: str
    version: int
    digest: str
    dataset: DatasetOut
    job: JobOut
    code: CodeOut
    environment: dict[str, str]

    @classmethod
    def of(cls, version: Version, lineage: Lineage) -> Self:
        return cls(
            model=version.model,
            version=version.number,
            digest=version.digest,
            dataset=DatasetOut(reference=lineage.dataset, digest=lineage.dataset_digest),
            job=JobOut(id=lineage.job, attempt=lineage.attempt),
            code=CodeOut(digest=lineage.code_digest),
            environment=lineage.environment,
        )


class PushedOut(BaseModel):
    """Who brought a version that was made elsewhere, when, and whence in his own words."""

    model: str
    version: int
    digest: str
    source: str
    by: str
    at: datetime

    @classmethod
    def of(cls, version: Version, pushed: Pushed) -> Self:
        return cls(
            model=version.model,
            version=version.number,
            digest=version.digest,
            source=pushed.source,
            by=pushed.by,
            at=version.created_at,
        )


def lineage_of(version: Version) -> LineageOut | PushedOut:
    """Where a version comes from: what is known of it depends on who made it."""
    lineage = version.manifest.lineage
    return PushedOut.of(version, lineage) if isinstance(lineage, Pushed) else LineageOut.of(version, lineage)


class AliasOut(BaseModel):
    model: str
    alias: str
    version: int
    digest: str
    updated_at: datetime

    @classmethod
    def of(cls, alias: Alias) -> Self:
        target = alias.target
        return cls(
            model=alias.model,
            alias=alias.name,
            version=target.version,
            digest=target.digest,
            updated_at=alias.updated_at,
        )


class TargetOut(BaseModel):
    version: int
    digest: str

    @classmethod
    def of(cls, target: Target | None) -> Self | None:
        return None if target is None else cls(version=target.version, digest=target.digest)


class MoveOut(BaseModel):
    """One line of an alias's history."""

    model_config = ConfigDict(serialize_by_alias=True)

    at: datetime
    subject: str
    """Who did it, and the service that vouched for him."""
    issuer: str
    request_id: str | None
    origin: Annotated[TargetOut | None, Field(serialization_alias="from")]
    """Null when the alias was made."""
    target: Annotated[TargetOut | None, Field(serialization_alias="to")]
    """Null when it was deleted."""

    @classmethod
    def of(cls, move: Move) -> Self:
        return cls(
            at=move.at,
            subject=move.subject,
            issuer=move.issuer,
            request_id=move.request_id,
            origin=TargetOut.of(move.origin),
            target=TargetOut.of(move.target),
        )
