"""A training job: what was asked for, the states it passes through, and what a caller may do with it."""

import enum
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kit import errors
from trainer.domain.attempts import TrainingSpec


class JobNotFound(errors.NotFound): ...


class JobFinished(errors.Conflict): ...


class JobRunning(errors.Conflict): ...


class Phase(enum.StrEnum):
    """Where a job is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})


class Reason(enum.StrEnum):
    """Why a job is where it is, for programs; the message and the hint say it to people."""

    NONE = ""
    WAITING_FOR_DATASET = "waiting-for-dataset"
    WAITING_FOR_RUNNER = "waiting-for-runner"
    RETRYING = "retrying"
    REGISTERING = "registering"
    CANCELLED = "cancelled"
    DATASET_NOT_FOUND = "dataset-not-found"
    DATASET_FAILED = "dataset-failed"
    COLUMN_NOT_FOUND = "column-not-found"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    USER_ERROR = "user-error"
    PLATFORM_ERROR = "platform-error"
    OUT_OF_MEMORY = "out-of-memory"
    CRASHED = "crashed"
    LOST = "lost"
    STOPPED = "stopped"
    INPUTS_UNAVAILABLE = "inputs-unavailable"
    REGISTRATION_REFUSED = "registration-refused"


@dataclass(frozen=True)
class Why:
    """The reason for a state, what happened, and what its reader can do."""

    reason: Reason = Reason.NONE
    message: str = ""
    hint: str = ""


NO_REASON = Why()


@dataclass(frozen=True)
class Pinned:
    """The dataset version that a job uses, once its reference is resolved: `flights@3`, and its digest."""

    reference: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What the author of a job asked for."""

    dataset: str
    training: TrainingSpec
    retries: int = 2
    deadline: timedelta = timedelta(minutes=10)
    """From the start of the first attempt to the end of the last one."""
    model: str | None = None
    """The model that the result becomes a version of."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it was last read."""

    id: uuid.UUID
    project: str
    subject: str
    """Who asked for it; what is done for the job is done in this name."""
    spec: JobSpec
    phase: Phase = Phase.PENDING
    why: Why = NO_REASON
    pinned: Pinned | None = None
    cancel_requested: bool = False
    delete_requested: bool = False
    registering: bool = False
    """The point of no return: from here on the model may be in the registry, so the job can only succeed or fail."""
    attempt: int = 0
    generation: int = 1
    """Counts the changes of what is wanted, so that nobody records an answer to an older question."""
    metrics: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    removed_at: datetime | None = None

    @property
    def holder(self) -> str:
        """The name under which it holds its dataset version."""
        return f"trainer/job/{self.id}"
