"""The wire of the trainer as users see it."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from kit.waiting import duration_of
from trainer.domain.attempts import Estimator, Preprocessing, TrainingSpec
from trainer.domain.jobs import Job, JobSpec, Phase
from trainer.domain.reports import Kept, Line, Point
from trainer.domain.resources import CORE, MAX_BYTES, MAX_GPUS, MAX_MILLIS, Resources, bytes_of
from trainer.domain.sharing import HIGHEST, LOWEST
from trainer.domain.specs import MAX_RETRIES

T = TypeVar("T")
Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]
MAX_COLUMNS = 2000
MAX_SEED = 2**32 - 1


class _In(BaseModel):
    # Strict: "3" is no number, and true is not 1.
    model_config = ConfigDict(extra="forbid", strict=True)


class EstimatorIn(_In):
    path: Annotated[Word, Field(alias="class", examples=["sklearn.ensemble.HistGradientBoostingClassifier"])]
    parameters: dict[str, Any] = {}


class PreprocessingIn(_In):
    numeric: Word = "auto"
    categories: Word = "auto"
    add_indicator: bool = False


class RegisterIn(_In):
    model: Word


class ResourcesIn(_In):
    """What one node of the job needs."""

    cpu: Annotated[float, Field(ge=1 / CORE, le=MAX_MILLIS // CORE)] = 1
    memory: Annotated[int, Field(ge=1, le=MAX_BYTES)] | Annotated[str, Field(max_length=20)] | None = Field(
        default=None, examples=["2Gi"]
    )
    """None: what a runner lets an attempt have."""
    gpu: Annotated[int, Field(ge=0, le=MAX_GPUS)] = 0

    def resources(self) -> Resources:
        """
        Raises:
            QuantityInvalid: the memory is no amount.
        """
        size = self.memory
        if isinstance(size, str):
            size = bytes_of(size, pointer="#/resources/memory")
        return Resources(cpu_millis=round(self.cpu * CORE), memory_bytes=size, gpus=self.gpu)


class JobIn(_In):
    kind: Literal["estimator"] = "estimator"
    dataset: Annotated[Word, Field(examples=["flights@3"])]
    task: Literal["classification", "regression"]
    target: Word
    features: Annotated[list[Word], Field(max_length=MAX_COLUMNS)] | None = None
    """None: all columns but the target."""
    estimator: EstimatorIn
    preprocessing: PreprocessingIn | None = None
    baseline: Annotated[list[Word], Field(max_length=10)] | None = None
    """Columns whose rates are shown beside the model's metrics."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = 2
    deadline: Annotated[str, Field(max_length=12, examples=["10m"])] = "10m"
    registers: Annotated[RegisterIn | None, Field(alias="register")] = None
    resources: ResourcesIn | None = None
    priority: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] = 0
    """Who has more goes first, and others make way: they are stopped and queued again, at the cost of no retry."""

    def spec(self) -> JobSpec:
        """
        Raises:
            DurationInvalid: the deadline is no time span.
        """
        chosen = self.preprocessing or PreprocessingIn()
        training = TrainingSpec(
            task=self.task,
            target=self.target,
            estimator=Estimator(self.estimator.path, self.estimator.parameters),
            features=None if self.features is None else tuple(self.features),
            preprocessing=Preprocessing(**chosen.model_dump()),
            baseline=None if self.baseline is None else tuple(self.baseline),
            seed=self.seed,
        )
        return JobSpec(
            dataset=self.dataset,
            training=training,
            retries=self.retries,
            deadline=duration_of(self.deadline, pointer="#/deadline"),
            model=None if self.registers is None else self.registers.model,
            resources=(self.resources or ResourcesIn()).resources(),
            priority=self.priority,
        )


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class StatusOut(BaseModel):
    phase: Phase
    reason: str
    message: str
    hint: str
    position: int | None = None
    """In the queue that it waits in: of its project for its quota, of all for a runner. 1 comes next."""


class JobOut(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    id: uuid.UUID
    kind: Literal["estimator", "bundle"]
    dataset: str
    """Once it is known which version that is, by its number. Empty: the job has none."""
    dataset_digest: str | None
    task: str
    """This, the target, the estimator and the preprocessing are empty where a bundle is run."""
    target: str
    features: list[str] | None
    estimator: dict[str, Any]
    preprocessing: dict[str, Any]
    baseline: list[str] | None
    seed: int
    bundle: dict[str, Any] | None
    """What is run of a bundle: the archive's digest, entrypoint, arguments, parameters, nproc, nodes …"""
    retries: int
    deadline: str
    registers: Annotated[dict[str, str] | None, Field(serialization_alias="register")]
    resources: dict[str, Any]
    priority: int
    status: StatusOut
    attempt: int
    progress: dict[str, Any] | None
    """What the program in the job does now: `stage` and `fraction`."""
    metrics: dict[str, float]
    """On the rows held out, beside `baseline_…`."""
    model: dict[str, Any] | None
    """The model version that it made: name, version, digest."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job, progress: dict[str, Any] | None = None, position: int | None = None) -> Self:
        spec, why = job.spec, job.why
        training = {} if spec.training is None else spec.training.to_json()
        bundle = None if spec.bundle is None else spec.bundle.to_json()
        shown = {name: training.get(name, empty) for name, empty in _SHOWN.items()}
        seed = training["seed"] if bundle is None else bundle["seed"]
        return cls(
            id=job.id,
            dataset=(spec.dataset or "") if job.pinned is None else job.pinned.reference,
            dataset_digest=None if job.pinned is None else job.pinned.digest,
            **shown,
            kind="estimator" if bundle is None else "bundle",
            seed=seed,
            bundle=None if bundle is None else {name: bundle[name] for name in bundle.keys() - {"kind", "seed"}},
            retries=spec.retries,
            deadline=f"{spec.deadline.total_seconds():g}s",
            registers=None if spec.model is None else {"model": spec.model},
            resources=spec.resources.to_json(),
            priority=spec.priority,
            status=StatusOut(phase=job.phase, reason=why.reason, message=why.message, hint=why.hint, position=position),
            attempt=job.attempt,
            progress=progress if job.phase is Phase.RUNNING else None,
            metrics=job.metrics,
            model=job.model,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


_SHOWN: Mapping[str, Any] = {
    "task": "",
    "target": "",
    "features": None,
    "estimator": {},
    "preprocessing": {},
    "baseline": None,
}


class LineOut(BaseModel):
    at: datetime
    level: str
    message: str
    source: str
    """`job`: the program in the job; `runner`: who runs it."""
    attempt: int

    @classmethod
    def of(cls, kept: Kept[Line]) -> Self:
        line = kept.report
        return cls(at=line.at, level=line.level, message=line.message, source=kept.source, attempt=kept.attempt)


class PointOut(BaseModel):
    name: str
    value: float
    step: int
    at: datetime
    attempt: int

    @classmethod
    def of(cls, kept: Kept[Point]) -> Self:
        point = kept.report
        return cls(name=point.name, value=point.value, step=point.step, at=point.at, attempt=kept.attempt)
