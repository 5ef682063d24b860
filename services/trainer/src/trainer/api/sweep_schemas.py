"""The wire of sweeps."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from kit.waiting import duration_of
from trainer.api.bundle_schemas import AnyJobIn
from trainer.api.schemas import MAX_SEED, Word
from trainer.domain import spaces
from trainer.domain.pruning import MAX_FIRST, MAX_REDUCTION, Pruning
from trainer.domain.spaces import MAX_CHOICES, MAX_PARAMETERS, MAX_POINTS
from trainer.domain.sweeps import (
    Algorithm,
    Budget,
    Direction,
    Method,
    Objective,
    Sweep,
    SweepPhase,
    SweepSpec,
    Trial,
    TrialPhase,
)

MAX_PARALLELISM = 64


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class WholeIn(_In):
    type: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False


class RealIn(_In):
    type: Literal["float"]
    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    step: Annotated[float, Field(allow_inf_nan=False, gt=0)] | None = None
    log: bool = False


class ChoiceIn(_In):
    type: Literal["categorical"]
    choices: Annotated[list[Any], Field(min_length=1, max_length=MAX_CHOICES)]


ValuesIn = Annotated[WholeIn | RealIn | ChoiceIn, Field(discriminator="type")]


class ObjectiveIn(_In):
    metric: Annotated[Word, Field(examples=["roc_auc"])]
    direction: Literal["maximize", "minimize"] = "maximize"


class AlgorithmIn(_In):
    method: Literal["tpe", "random", "grid"] = "tpe"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    startup: Annotated[int, Field(ge=1, le=MAX_POINTS)] = 10
    """TPE: trials that are drawn before there is anything to learn from."""


class PruningIn(_In):
    """ASHA: a trial goes on while it is among the best 1/`reduction` at `first`, `first · reduction` … steps."""

    first: Annotated[int, Field(ge=1, le=MAX_FIRST)] = 1
    reduction: Annotated[int, Field(ge=2, le=MAX_REDUCTION)] = 3


class BudgetIn(_In):
    """The first that is spent ends the sweep."""

    trials: Annotated[int, Field(ge=1, le=MAX_POINTS)] = 20
    time: Annotated[str, Field(max_length=12, examples=["1h"])] | None = None
    core_hours: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None


class SweepIn(_In):
    job: AnyJobIn
    """As `POST /v1/jobs` takes it. The trials register nothing; the best becomes a version of its `register.model`."""
    space: Annotated[dict[Word, ValuesIn], Field(min_length=1, max_length=MAX_PARAMETERS)]
    """For each parameter (of the estimator, or of the bundle) the values that it may have."""
    objective: ObjectiveIn
    algorithm: AlgorithmIn = AlgorithmIn()
    pruning: PruningIn | None = None
    parallelism: Annotated[int, Field(ge=1, le=MAX_PARALLELISM)] = 1
    """Trials at one time."""
    budget: BudgetIn = BudgetIn()
    failures: Annotated[int, Field(ge=1, le=MAX_POINTS)] = 5
    """So many failed trials in a row end the sweep."""

    def spec(self) -> SweepSpec:
        """
        Raises:
            DurationInvalid: a deadline or a budget is no time span.
        """
        job, time = self.job.spec(), self.budget.time
        return SweepSpec(
            job=replace(job, model=None),
            space=spaces.from_json({name: values.model_dump() for name, values in self.space.items()}),
            objective=Objective(self.objective.metric, Direction(self.objective.direction)),
            algorithm=Algorithm(Method(self.algorithm.method), self.algorithm.seed, self.algorithm.startup),
            pruning=None if self.pruning is None else Pruning(self.pruning.first, self.pruning.reduction),
            parallelism=self.parallelism,
            budget=Budget(self.budget.trials, _span(time), self.budget.core_hours),
            failures=self.failures,
            model=job.model,
        )

    def document(self) -> dict[str, Any]:
        """What was asked for, to be shown again."""
        return self.model_dump(mode="json", by_alias=True)


def _span(time: str | None) -> timedelta | None:
    return None if time is None else duration_of(time, pointer="#/budget/time")


class SweepStatusOut(BaseModel):
    phase: SweepPhase
    reason: str
    message: str
    hint: str


class BestOut(BaseModel):
    number: int
    job: uuid.UUID
    value: float
    parameters: dict[str, Any]


class SweepOut(BaseModel):
    id: uuid.UUID
    job: dict[str, Any]
    space: dict[str, Any]
    objective: dict[str, Any]
    algorithm: dict[str, Any]
    pruning: dict[str, Any] | None
    parallelism: int
    budget: dict[str, Any]
    failures: int
    status: SweepStatusOut
    counts: dict[str, int]
    """How many trials are `running`, `succeeded`, `pruned`, `failed`, `cancelled`."""
    best: BestOut | None
    importance: dict[str, float]
    """How much of the differences between trials each parameter explains, in shares of 1."""
    core_hours: float
    model: dict[str, Any] | None
    """The model version that the best trial became: name, version, digest."""
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, sweep: Sweep, **more: Any) -> Self:
        why, summary = sweep.why, sweep.summary
        status = SweepStatusOut(phase=sweep.phase, reason=why.cause, message=why.message, hint=why.hint)
        return cls(
            id=sweep.id,
            **{name: sweep.asked[name] for name in _SHOWN},
            status=status,
            counts=summary.get("trials", dict.fromkeys(map(str, TrialPhase), 0)),
            best=summary.get("best"),
            importance=summary.get("importance", {}),
            core_hours=summary.get("core_hours", 0.0),
            model=None if sweep.model is None else dict(sweep.model),
            created_at=sweep.created_at,
            finished_at=sweep.finished_at,
            **more,
        )


_SHOWN = ("job", "space", "objective", "algorithm", "pruning", "parallelism", "budget", "failures")


class TrialOut(BaseModel):
    number: int
    job: uuid.UUID
    phase: TrialPhase
    parameters: dict[str, Any]
    value: float | None
    """Of the objective: in the end, or where it was judged last."""
    step: int | None
    seconds: float
    """Processor time that it was given."""
    message: str
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, trial: Trial) -> Self:
        return cls(job=trial.job_id, **{name: getattr(trial, name) for name in _TRIAL})


_TRIAL = ("number", "phase", "parameters", "value", "step", "seconds", "message", "created_at", "finished_at")


class SweepWithTrials(SweepOut):
    trials: list[TrialOut]

    @classmethod
    def of_all(cls, sweep: Sweep, trials: Sequence[Trial]) -> Self:
        return cls.of(sweep, trials=[TrialOut.of(trial) for trial in trials])
