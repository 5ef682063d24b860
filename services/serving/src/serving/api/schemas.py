"""The wire of serving's control plane."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kit import errors
from serving.domain.deployments import ALONE, NAME, Deployment, Part, Phase, Reason, Reference
from serving.domain.limits import Limits
from serving.domain.revisions import Revision, Target

T = TypeVar("T")
MOST = 10
HEAVIEST = 10_000
BUSIEST, LONGEST = 10_000, 100_000
LEAST_MEMORY, MOST_MEMORY = 1 << 20, 1 << 40


def _named(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            "a name has 1 to 63 characters a-z, 0-9, '.', '_' and '-', and begins and ends with one of a-z0-9"
        )
    return value


def _referring(value: str) -> str:
    try:
        Reference.of(value)
    except errors.Invalid as exc:
        raise ValueError(exc.detail) from None
    return value


Name = Annotated[str, AfterValidator(_named)]
ModelReference = Annotated[str, Field(max_length=200, examples=["flight-delays@champion"]), AfterValidator(_referring)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PartIn(_In):
    model: ModelReference
    weight: Annotated[int, Field(ge=1, le=HEAVIEST, strict=True)]


class LimitsIn(_In):
    """What is left out is as the process is set."""

    concurrency: Annotated[int, Field(ge=1, le=BUSIEST, strict=True)] | None = None
    """Requests that each of its models works on at one time, in each process."""
    waiting: Annotated[int, Field(ge=0, le=LONGEST, strict=True)] | None = None
    """Requests that may wait for them, in each process; more get 503."""
    memory_bytes: Annotated[int, Field(ge=LEAST_MEMORY, le=MOST_MEMORY, strict=True)] | None = None
    """Of each of its models, loaded. Never more than the operator allows."""


class DeploymentIn(_In):
    """Either one model, or several with their weights."""

    model: ModelReference | None = None
    models: Annotated[list[PartIn], Field(min_length=1, max_length=MOST)] | None = None
    limits: LimitsIn | None = None
    pinned: Annotated[bool, Field(strict=True)] | None = None
    """Whether its models stay in memory, also when nobody asks for them."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.model is None) == (self.models is None):
            raise ValueError("give either model or models")
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """As the domain has it."""
        if self.model is not None:
            return (Part(self.model, ALONE),)
        return tuple(Part(part.model, part.weight) for part in self.models or ())

    @property
    def wanted_limits(self) -> Limits | None:
        """As the domain has it; None: as they are."""
        return None if self.limits is None else Limits.from_json(self.limits.model_dump())


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class PartOut(BaseModel):
    model: str
    weight: int


class TargetOut(BaseModel):
    model: str
    version: int
    digest: str
    weight: int
    format: str

    @classmethod
    def of(cls, target: Target) -> Self:
        return cls(
            model=target.model,
            version=target.version,
            digest=target.digest,
            weight=target.weight,
            format=target.file.format,
        )


class RevisionOut(BaseModel):
    id: int
    targets: list[TargetOut]
    created_at: datetime | None

    @classmethod
    def of(cls, revision: Revision) -> Self:
        targets: Sequence[Target] = revision.targets
        return cls(id=revision.number, targets=list(map(TargetOut.of, targets)), created_at=revision.created_at)


class StatusOut(BaseModel):
    phase: Phase
    reason: Reason
    message: str
    observed_generation: int


class LimitsOut(BaseModel):
    concurrency: int | None
    waiting: int | None
    memory_bytes: int | None


class DeploymentOut(BaseModel):
    name: str
    models: list[PartOut]
    limits: LimitsOut
    pinned: bool
    generation: int
    status: StatusOut
    revision: RevisionOut | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        status = deployment.status
        return cls(
            name=deployment.name,
            models=[PartOut(model=part.model, weight=part.weight) for part in deployment.models],
            limits=LimitsOut.model_validate(deployment.limits, from_attributes=True),
            pinned=deployment.is_pinned,
            generation=deployment.generation,
            status=StatusOut(
                phase=status.phase,
                reason=status.reason,
                message=status.message,
                observed_generation=deployment.observed_generation,
            ),
            revision=None if deployment.revision is None else RevisionOut.of(deployment.revision),
            created_at=deployment.created_at,
            updated_at=deployment.updated_at,
        )
