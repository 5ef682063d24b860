"""What must be done next about a job. A pure decision over what was seen: the job, its newest attempt, and the time.

The time is the database's, read together with the rows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from trainer.domain.jobs import FINAL, NO_REASON, Job, Phase, Reason, Why
from trainer.domain.leased import LIVE, USELESS, Attempt, AttemptPhase, backoff

LOOK = timedelta(seconds=5)
"""Between two looks at an attempt that somebody works on: what it does wakes its job before that."""
GRACE = timedelta(seconds=6)
"""From the first look at a lease that ran out until the attempt is given up. Several heartbeats long: after the
trainer itself was away, every runner gets its word in before it is called dead."""
SWEEP = timedelta(minutes=10)
"""From a job's end until its row is dropped. Longer than any replica can stall: what one does late is undone then."""


@dataclass(frozen=True)
class Sight:
    """All that a decision is made on."""

    job: Job
    attempt: Attempt | None
    """The newest."""
    failures: int
    """Attempts that count against the retries."""
    now: datetime


@dataclass(frozen=True)
class Pin:
    """Resolve the dataset reference, and remember what it stands for."""


@dataclass(frozen=True)
class Queue:
    """Hold the dataset version, and let the next attempt be leased."""

    number: int


@dataclass(frozen=True)
class Withdraw:
    """Take back an attempt that nobody has begun."""


@dataclass(frozen=True)
class Stop:
    """Have the runner stop the attempt."""


@dataclass(frozen=True)
class Suspect:
    """Note that the runner has been silent for too long."""


@dataclass(frozen=True)
class Lose:
    """Give the attempt up."""


@dataclass(frozen=True)
class Commit:
    """Pass the point of no return: the result is to be registered."""


@dataclass(frozen=True)
class Register:
    """Make the result a model version."""


@dataclass(frozen=True)
class Settle:
    """Record how the job ended."""

    phase: Phase
    why: Why = NO_REASON


@dataclass(frozen=True)
class Remove:
    """Let go of what a deleted job holds; `last`: and forget it."""

    last: bool


@dataclass(frozen=True)
class Wait:
    """Look again after that time; None: when somebody wakes the job."""

    timeout: timedelta | None
    why: Why | None = None


Step = Pin | Queue | Withdraw | Stop | Suspect | Lose | Commit | Register | Settle | Remove | Wait


def next_step(seen: Sight) -> Step:
    """The one thing to do now."""
    job, attempt = seen.job, seen.attempt
    if job.phase in FINAL:
        return _afterwards(job, seen.now)
    if attempt is not None and attempt.phase in LIVE:
        return _watch(seen, attempt)
    if job.registering:
        return Register()
    if job.cancel_requested:
        return Settle(Phase.CANCELLED, Why(Reason.CANCELLED, "The job was cancelled."))
    if attempt is not None and attempt.phase is AttemptPhase.SUCCEEDED:
        return Commit() if job.spec.model is not None else Settle(Phase.SUCCEEDED)
    if _overdue(seen):
        return Settle(Phase.FAILED, _late(job))
    if job.pinned is None:
        return Pin()
    return Queue(1) if attempt is None else _again(seen, attempt)


def _afterwards(job: Job, now: datetime) -> Step:
    if not job.delete_requested:
        return Wait(None)
    if job.removed_at is None:
        return Remove(last=False)
    left = job.removed_at + SWEEP - now
    return Wait(left) if left > timedelta(0) else Remove(last=True)


def _watch(seen: Sight, attempt: Attempt) -> Step:
    unwanted = seen.job.cancel_requested or _overdue(seen)
    if attempt.phase is AttemptPhase.QUEUED:
        return Withdraw() if unwanted else Wait(LOOK)
    if attempt.lease_until is None or attempt.lease_until <= seen.now:
        return _silent(attempt, seen.now)
    return Stop() if unwanted and not attempt.stop_requested else Wait(LOOK)


def _silent(attempt: Attempt, now: datetime) -> Step:
    if attempt.suspected_at is None:
        return Suspect()
    left = attempt.suspected_at + GRACE - now
    return Wait(left) if left > timedelta(0) else Lose()


def _again(seen: Sight, attempt: Attempt) -> Step:
    following = Queue(attempt.number + 1)
    if attempt.phase in (AttemptPhase.STOPPED, AttemptPhase.WITHDRAWN):
        return following  # nothing was wrong with it
    if attempt.why.reason in USELESS:
        return Settle(Phase.FAILED, attempt.why)
    if seen.failures > seen.job.spec.retries:
        tried = f" (tried {seen.failures} times)" if seen.failures > 1 else ""
        return Settle(
            Phase.FAILED, Why(attempt.why.reason, f"{attempt.why.message.rstrip('.')}{tried}.", attempt.why.hint)
        )
    since = attempt.finished_at or seen.now
    left = since + backoff(seen.failures) - seen.now
    if left <= timedelta(0):
        return following
    return Wait(left, Why(Reason.RETRYING, f"Attempt {attempt.number}: {attempt.why.message}", attempt.why.hint))


def _overdue(seen: Sight) -> bool:
    job = seen.job
    return not job.registering and job.started_at is not None and seen.now >= job.started_at + job.spec.deadline


def _late(job: Job) -> Why:
    seconds = job.spec.deadline.total_seconds()
    hint = "Give it a longer deadline, fewer rows, or a smaller estimator."
    return Why(Reason.DEADLINE_EXCEEDED, f"The job did not end within {seconds:g} s.", hint)
