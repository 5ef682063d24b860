"""The wire of the trainer as users see it."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from kit.waiting import duration_of
from trainer.domain.attempts import Estimator, Preprocessing, TrainingSpec
from trainer.domain.jobs import Job, JobSpec, Phase
from trainer.domain.reports import Kept, Line, Point
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


class JobIn(_In):
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
        )


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class StatusOut(BaseModel):
    phase: Phase
    reason: str
    message: str
    hint: str


class JobOut(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    id: uuid.UUID
    dataset: str
    """Once it is known which version that is, by its number."""
    dataset_digest: str | None
    task: str
    target: str
    features: list[str] | None
    estimator: dict[str, Any]
    preprocessing: dict[str, Any]
    baseline: list[str] | None
    seed: int
    retries: int
    deadline: str
    registers: Annotated[dict[str, str] | None, Field(serialization_alias="register")]
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
    def of(cls, job: Job, progress: dict[str, Any] | None = None) -> Self:
        spec, why = job.spec, job.why
        training = spec.training.to_json()
        return cls(
            id=job.id,
            dataset=spec.dataset if job.pinned is None else job.pinned.reference,
            dataset_digest=None if job.pinned is None else job.pinned.digest,
            **{name: training[name] for name in _SHOWN},
            retries=spec.retries,
            deadline=f"{spec.deadline.total_seconds():g}s",
            registers=None if spec.model is None else {"model": spec.model},
            status=StatusOut(phase=job.phase, reason=why.reason, message=why.message, hint=why.hint),
            attempt=job.attempt,
            progress=progress if job.phase is Phase.RUNNING else None,
            metrics=job.metrics,
            model=job.model,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


_SHOWN = ("task", "target", "features", "estimator", "preprocessing", "baseline", "seed")


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
