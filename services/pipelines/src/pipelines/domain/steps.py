"""A step of a run: its states, what must be done next about it, and what its failures mean."""

import enum
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from kit import errors
from pipelines.domain.definitions import StepSpec
from pipelines.domain.kinds import RELEASE, VERSIONS


class StepPhase(enum.StrEnum):
    """Where a step is."""

    WAITING = "waiting"
    """For steps that it needs, or for a worker."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REUSED = "reused"
    """An equal step has done it before, and what it made is still there."""
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset(StepPhase) - {StepPhase.WAITING, StepPhase.RUNNING}
UNDONE = frozenset({StepPhase.WAITING, StepPhase.RUNNING})
GOOD = frozenset({StepPhase.SUCCEEDED, StepPhase.REUSED, StepPhase.SKIPPED})


class StepReason(enum.StrEnum):
    """Why a step is where it is, for programs. Reasons of a neighbour are passed on as they are."""

    NONE = ""
    CONDITION = "condition"
    NEED_FAILED = "need-failed"
    NEED_SKIPPED = "need-skipped"
    EQUAL_STEP = "waiting-for-equal-step"
    RETRYING = "retrying"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    INVALID = "invalid"
    REFUSED = "refused"
    EXPRESSION = "expression"
    GATE = "gate"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step as it was last read."""

    id: uuid.UUID
    project: str
    run_id: uuid.UUID
    spec: StepSpec
    phase: StepPhase = StepPhase.WAITING
    reason: str = ""
    message: str = ""
    attempt: int = 0
    """How often it was begun. Within an attempt everything is done once, however often it is tried."""
    retried: int = 0
    """How many of these attempts followed a failure, since the run began or was resumed."""
    failures: int = 0
    """Tries in a row that brought nothing, since a neighbour did not answer."""
    failing_since: datetime | None = None
    inputs: Mapping[str, Any] | None = None
    """Its `with` with all references replaced, once it has begun."""
    key: str | None = None
    elected: bool = False
    """Whether this step is the one that does what its key stands for."""
    memo: Mapping[str, Any] = field(default_factory=dict)
    """What it has made at its neighbours so far."""
    outputs: Mapping[str, Any] | None = None
    generation: int = 1
    started_at: datetime | None = None
    attempt_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def idempotency_key(self) -> str:
        """Of every POST that this attempt makes: the same after any crash, and in every replica."""
        return f"step-{self.id}-{self.attempt}"


@dataclass(frozen=True)
class Rest:
    """Nothing: it is over, or not its turn."""


@dataclass(frozen=True)
class Begin:
    """See whether it is to be done at all, and with what."""


@dataclass(frozen=True)
class Elect:
    """Find out whether an equal step has done it, does it, or whether it is this one's to do."""


@dataclass(frozen=True)
class Work:
    """Look at what it makes, and act."""


@dataclass(frozen=True)
class Cancel:
    """Undo what is under way, and end it."""


@dataclass(frozen=True)
class TimeOut:
    """The same, because it took too long."""


Next = Rest | Begin | Elect | Work | Cancel | TimeOut


@dataclass(frozen=True)
class Sight:
    """All that a decision is made on. The time is the database's, read together with the rows."""

    step: Step
    needs: Mapping[str, StepPhase]
    cancelled: bool
    """Whether the run was."""
    now: datetime


def next_step(seen: Sight) -> Next:
    """The one thing to do now."""
    step = seen.step
    if step.phase in FINAL:
        return Rest()
    if seen.cancelled:
        return Cancel()
    if any(phase in UNDONE for phase in seen.needs.values()):
        return Rest()
    if step.attempt_at is not None and seen.now >= step.attempt_at + step.spec.timeout:
        return TimeOut()
    if step.inputs is None:
        return Begin()
    return Work() if step.elected else Elect()


def key_of(
    project: str,
    kind: str,
    inputs: Mapping[str, Any],
    *,
    release: str = RELEASE,
    versions: Mapping[str, int] = VERSIONS,
) -> str | None:
    """What tells two equal steps: project, kind and what computes it, inputs with digests for what they name.

    None: it is always done.
    """
    if kind not in versions:
        return None
    document = [project, f"{kind}@{versions[kind]}", release, dict(inputs)]
    return f"sha256:{hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()}"


class StepFailed(errors.Error):
    """The work was done and came to nothing: a job failed, an expression was false."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


PASSING = frozenset({"parser-lost", "lost", "crashed", "platform-error", "inputs-unavailable", "stopped", "changed"})
"""Reasons of neighbours that another attempt may not meet again."""
PATIENCE = timedelta(minutes=10)
"""How long a neighbour may be away before a step that needs it fails."""
TRIES = 8
"""How many tries in a row may bring nothing before what nobody foresaw is believed to stay."""
AWAY_FIRST, AWAY_LONGEST = timedelta(milliseconds=250), timedelta(seconds=5)
FIRST, LONGEST = timedelta(seconds=1), timedelta(minutes=1)


@dataclass(frozen=True)
class Again:
    """Look again after that time, in the same attempt."""

    due_in: timedelta
    message: str


@dataclass(frozen=True)
class Anew:
    """Begin another attempt after that time."""

    due_in: timedelta
    message: str


@dataclass(frozen=True)
class Fail:
    """Give up. `anew`: what was made is of no use to a later attempt."""

    reason: str
    message: str
    anew: bool = True


def judge(error: Exception, step: Step, now: datetime) -> Again | Anew | Fail:
    """What a failure means for the step."""
    if not isinstance(error, errors.Error):
        return _judge_unforeseen(error, step, now)
    message = message_of(error)
    match error:
        case errors.Unavailable() | errors.TooMany() | errors.Unauthenticated():
            # Not to be known is passing, too: keys are being changed, or one of two clocks is wrong.
            if _is_patience_over(step, now):
                return Fail(StepReason.UNAVAILABLE, message, anew=False)
            due_in = max(_doubled(AWAY_FIRST, step.failures, AWAY_LONGEST), error.retry_after or timedelta(0))
            return Again(min(due_in, LONGEST), message)
        case StepFailed() if error.reason in PASSING and step.retried < step.spec.retries:
            return Anew(_doubled(FIRST, step.retried, LONGEST), message)
        case StepFailed():
            return Fail(error.reason, message)
        case errors.PreconditionFailed() | errors.PreconditionRequired():
            # Somebody else changed the thing between our look and our act.
            if step.retried < step.spec.retries:
                return Anew(_doubled(FIRST, step.retried, LONGEST), message)
            return Fail(StepReason.REFUSED, message)
        case errors.Conflict() if error.extra.get("upstream_code") == "idempotency-in-progress":
            return Again(_doubled(AWAY_FIRST, step.failures, AWAY_LONGEST), message)
        case errors.Invalid() | errors.Malformed():
            return Fail(StepReason.INVALID, message)
        case _:
            return Fail(StepReason.REFUSED, message)


def _judge_unforeseen(error: Exception, step: Step, now: datetime) -> Again | Fail:
    # Its words may hold anything, so they stay in the log. What was made is kept: a resume finds it again.
    message = f"Something unforeseen went wrong ({type(error).__name__}); the log of pipelines says more."
    if step.failures + 1 >= TRIES or _is_patience_over(step, now):
        return Fail(StepReason.INTERNAL, message, anew=False)
    return Again(_doubled(AWAY_FIRST, step.failures, AWAY_LONGEST), message)


def _is_patience_over(step: Step, now: datetime) -> bool:
    return step.failing_since is not None and now >= step.failing_since + PATIENCE


def message_of(error: errors.Error) -> str:
    """What went wrong, with the places that a neighbour named, as far as a database can keep it."""
    places = "; ".join(f"{place['pointer']} {place['detail']}" for place in error.errors[:5])
    said = f"{error.detail} {places}".strip()[:2000].replace("\0", "")
    return said.encode(errors="replace").decode()


def _doubled(first: timedelta, times: int, longest: timedelta) -> timedelta:
    doubled: int = 2 ** min(times, 16)
    return min(first * doubled, longest)
