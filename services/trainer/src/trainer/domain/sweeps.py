"""A sweep: the same job again and again with other parameters, to find the best. What was asked for, and its trials."""

import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from kit import errors
from trainer.domain.jobs import JobSpec
from trainer.domain.pruning import Pruning
from trainer.domain.resources import CORE
from trainer.domain.spaces import Space


class SweepNotFound(errors.NotFound): ...


class SweepFinished(errors.Conflict): ...


class SweepRunning(errors.Conflict): ...


class SweepPhase(enum.StrEnum):
    """Where a sweep is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({SweepPhase.SUCCEEDED, SweepPhase.FAILED, SweepPhase.CANCELLED})


class TrialPhase(enum.StrEnum):
    """Where a trial is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PRUNED = "pruned"  # not worth going on with
    FAILED = "failed"
    CANCELLED = "cancelled"


class Cause(enum.StrEnum):
    """Why a sweep is where it is, for programs."""

    NONE = ""
    TRIALS = "trials-done"
    TIME = "time-spent"
    CORE_HOURS = "core-hours-spent"
    CANCELLED = "cancelled"
    REGISTERING = "registering"
    FAILING = "trials-failing"
    NO_TRIAL = "no-trial-succeeded"
    REGISTRATION_REFUSED = "registration-refused"


@dataclass(frozen=True)
class Reading:
    """A sweep's cause, for programs, with what people read."""

    cause: Cause = Cause.NONE
    message: str = ""
    hint: str = ""


class Direction(enum.StrEnum):
    """Which values of the objective are better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class Method(enum.StrEnum):
    """How the next trial's parameters are found."""

    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"


@dataclass(frozen=True)
class Objective:
    """The metric of a job that tells how good its parameters were."""

    metric: str
    direction: Direction

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.direction is Direction.MAXIMIZE


@dataclass(frozen=True)
class Algorithm:
    """How a sweep searches."""

    method: Method = Method.TPE
    seed: int = 0
    startup: int = 10
    """TPE: trials that are drawn before there is anything to learn from."""


@dataclass(frozen=True)
class Budget:
    """What a sweep may spend; the first that is spent ends it."""

    trials: int
    time: timedelta | None = None
    core_hours: float | None = None


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """What the author of a sweep asked for."""

    job: JobSpec
    """Without a model: the trials register nothing."""
    space: Space
    objective: Objective
    algorithm: Algorithm
    pruning: Pruning | None
    parallelism: int
    budget: Budget
    failures: int = 5
    """So many failed trials in a row end the sweep."""
    model: str | None = None
    """The model that the best trial's result becomes a version of."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as it was last read."""

    id: uuid.UUID
    project: str
    subject: str
    spec: SweepSpec
    asked: Mapping[str, Any]
    """The body that asked for it, to be shown again."""
    phase: SweepPhase = SweepPhase.RUNNING
    why: Reading = Reading()
    cancel_requested: bool = False
    generation: int = 1
    woken: int = 0
    """Counts the ends of its jobs, so that none is missed while somebody looks at the sweep."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What its trials have come to, as it is shown."""
    model: Mapping[str, Any] | None = None
    created_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as it was last read: one job of the sweep."""

    number: int
    """They count from 0."""
    job_id: uuid.UUID
    parameters: Mapping[str, Any]
    phase: TrialPhase = TrialPhase.RUNNING
    value: float | None = None
    """Of the objective: in the end, or where it was pruned."""
    step: int | None = None
    rungs: tuple[float, ...] = ()
    """What it was worth at each rung that it was judged at."""
    seconds: float = 0.0
    """Processor time that it was given, in the end."""
    message: str = ""
    created_at: datetime
    finished_at: datetime | None = None


def with_parameters(spec: JobSpec, parameters: Mapping[str, Any]) -> JobSpec:
    """The job with these parameters laid over its own."""
    if spec.bundle is not None:
        return replace(spec, bundle=replace(spec.bundle, parameters={**spec.bundle.parameters, **parameters}))
    training = spec.training
    assert training is not None  # a job has one of them
    estimator = replace(training.estimator, parameters=training.estimator.parameters | dict(parameters))
    return replace(spec, training=replace(training, estimator=estimator))


def cores_of(spec: JobSpec) -> float:
    """How many processors an attempt at the job is given, on all of its nodes."""
    return spec.asks.cpu_millis / CORE


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The best that ran to its end; the first of several that are as good."""
    ended = [trial for trial in trials if trial.phase is TrialPhase.SUCCEEDED and trial.value is not None]
    sign = -1 if objective.maximize else 1
    return min(ended, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)
