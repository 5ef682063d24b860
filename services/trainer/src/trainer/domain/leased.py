"""An attempt at a job, as the trainer keeps it: who works on it, for how long that is believed, and how it ended."""

import enum
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from kit import errors
from trainer.domain.attempts import AttemptResult, Outcome
from trainer.domain.jobs import NO_REASON, Reason, Why

TOKEN_PREFIX = "tya_"  # noqa: S105 - what a token begins with, so that it is known for one


class AttemptNotFound(errors.NotFound): ...


class AttemptOver(errors.Conflict): ...


class StaleFence(errors.Conflict): ...


class OutputsMissing(errors.Invalid): ...


class OutputDiffers(errors.Invalid): ...


class AttemptPhase(enum.StrEnum):
    """Where an attempt is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  # ended because it was told to, or because its host was
    LOST = "lost"
    WITHDRAWN = "withdrawn"  # nobody had begun it


LIVE = frozenset({AttemptPhase.QUEUED, AttemptPhase.RUNNING})
COUNTED = frozenset({AttemptPhase.FAILED, AttemptPhase.LOST})
"""What is charged against a job's retries: not an attempt that was told to stop."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt as it was last read."""

    id: uuid.UUID
    project: str
    job_id: uuid.UUID
    number: int
    phase: AttemptPhase = AttemptPhase.QUEUED
    why: Why = NO_REASON
    host: str | None = None
    fence: int = 0
    """Raised whenever the attempt is given to a runner; what an earlier owner writes is refused."""
    lease_until: datetime | None = None
    suspected_at: datetime | None = None
    stop_requested: bool = False
    exit_code: int | None = None
    result: AttemptResult | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    traceparent: str | None = None
    """Of the trace that its job belongs to."""

    @property
    def owner(self) -> str:
        """The name under which it keeps its outputs."""
        return f"attempt:{self.id}"


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, and what that is called."""

    phase: AttemptPhase
    why: Why = NO_REASON


def ending_of(exit_code: int | None, result: AttemptResult | None, failure: Why | None) -> Ending:
    """What the runner found: an exit code (negative: a signal), a result, or what kept it from starting at all."""
    if result is None:
        return Ending(AttemptPhase.FAILED, failure or _crash(exit_code))
    match result.outcome:
        case Outcome.SUCCEEDED:
            return Ending(AttemptPhase.SUCCEEDED)
        case Outcome.STOPPED:
            return Ending(AttemptPhase.STOPPED, Why(Reason.STOPPED, result.message))
        case Outcome.USER_ERROR:
            return Ending(AttemptPhase.FAILED, Why(Reason.USER_ERROR, result.message, result.hint))
        case Outcome.PLATFORM_ERROR if "MemoryError" in result.message:
            return Ending(AttemptPhase.FAILED, Why(Reason.OUT_OF_MEMORY, result.message, MEMORY_HINT))
        case Outcome.PLATFORM_ERROR:
            return Ending(AttemptPhase.FAILED, Why(Reason.PLATFORM_ERROR, result.message, result.hint or LOG_HINT))


MEMORY_HINT = "Use fewer columns or rows, or a smaller estimator; the runner's operator can allow a job more memory."
LOG_HINT = "The job's log has the details."


def _crash(exit_code: int | None) -> Why:
    if exit_code is None:
        return Why(Reason.CRASHED, "The job's process ended without a result.", LOG_HINT)
    if exit_code < 0:
        return Why(Reason.CRASHED, f"The job's process was ended by signal {-exit_code}.", MEMORY_HINT)
    return Why(Reason.CRASHED, f"The job's process ended with code {exit_code} and without a result.", LOG_HINT)


USELESS = frozenset({Reason.USER_ERROR, Reason.OUT_OF_MEMORY})
"""Failures that trying again will only repeat."""
FIRST, LONGEST = timedelta(seconds=2), timedelta(minutes=1)


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures: 2, 4, 8 … seconds, a minute at most."""
    doubled: int = 2 ** min(failures - 1, 10)
    return min(FIRST * doubled, LONGEST)
