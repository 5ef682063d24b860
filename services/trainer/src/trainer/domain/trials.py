"""What must be done next about a sweep. A pure decision over what was seen: its trials, their jobs, and the time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from trainer.domain import pruning, spaces
from trainer.domain.jobs import FINAL, Phase
from trainer.domain.pruning import Reached
from trainer.domain.sweeps import (
    ENDED,
    Cause,
    Method,
    Reading,
    Sweep,
    SweepPhase,
    SweepSpec,
    Trial,
    TrialPhase,
    best_of,
)

LOOK = timedelta(seconds=5)
"""Between two looks at a sweep: the end of each of its jobs wakes it before that."""
WATCH = timedelta(seconds=1)
"""Between two looks at trials that may be pruned: what they report wakes nobody."""
MOST = 16
"""Trials that are begun in one look, so that a look stays short."""
REGISTERING = Reading(Cause.REGISTERING, "The best trial's model is being registered.")
GONE = "The trial's job is gone."


@dataclass(frozen=True)
class Seen:
    """The job of a trial that has not ended, as it was last read."""

    phase: Phase
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    reached: tuple[Reached, ...] = ()
    """What it reported of the objective at each rung that it came to and was not judged at yet."""
    last: Reached | None = None
    """Its newest report of the objective."""
    seconds: float = 0.0
    """Processor time that its attempts were given until now."""


@dataclass(frozen=True)
class SweepSight:
    """All that a decision is made on. `jobs`: by number, of the trials that run; one that is gone is missing."""

    sweep: Sweep
    trials: Sequence[Trial]
    jobs: Mapping[int, Seen]
    now: datetime


@dataclass(frozen=True)
class Decision:
    """What is to be done, all of it in one transaction."""

    changed: tuple[Trial, ...] = ()
    """Trials as they are from now on."""
    stop: tuple[Trial, ...] = ()
    """Trials whose jobs are to end."""
    begin: tuple[int, ...] = ()
    """Numbers of trials to be made."""
    commit: Reading | None = None
    """Pass the point of no return, and say so: the best trial's model is to be registered."""
    register: Trial | None = None
    """The trial whose model is to be registered, before the sweep is settled."""
    settle: tuple[SweepPhase, Reading] | None = None
    due_in: timedelta | None = LOOK


def next_decision(seen: SweepSight) -> Decision:
    """All that is to be done now."""
    sweep, spec = seen.sweep, seen.sweep.spec
    if sweep.phase in ENDED:
        return Decision(due_in=None)
    changed = tuple(_told(seen))
    known = {trial.number: trial for trial in (*seen.trials, *changed)}
    trials = [known[number] for number in sorted(known)]
    pruned = tuple(trial for trial in changed if trial.phase is TrialPhase.PRUNED)
    live = [trial for trial in trials if trial.phase is TrialPhase.RUNNING]
    over = _over(seen, trials)
    if over is not None and live:
        return Decision(changed, (*pruned, *live), due_in=_look(spec))
    if over is not None:
        return _end(sweep, trials, Decision(changed, pruned, settle=over, due_in=None))
    free = min(spec.parallelism - len(live), _most(spec) - len(trials), MOST)
    begin = tuple(range(len(trials), len(trials) + max(0, free)))
    again = len(begin) == MOST and spec.parallelism > len(live) + MOST
    return Decision(changed, pruned, begin, due_in=timedelta(0) if again else _look(spec))


def _end(sweep: Sweep, trials: Sequence[Trial], decision: Decision) -> Decision:
    """Settle, with a model to register in two looks: a cancel between them comes first, or not at all."""
    assert decision.settle is not None
    best = best_of(trials, sweep.spec.objective)
    if decision.settle[0] is not SweepPhase.SUCCEEDED or sweep.spec.model is None or best is None:
        return decision
    if sweep.why.cause is Cause.REGISTERING:
        return replace(decision, register=best)
    return replace(decision, commit=REGISTERING, settle=None, due_in=timedelta(0))


def _look(spec: SweepSpec) -> timedelta:
    return LOOK if spec.pruning is None else WATCH


def _most(spec: SweepSpec) -> int:
    size = spaces.size_of(spec.space) if spec.algorithm.method is Method.GRID else None
    return spec.budget.trials if size is None else min(size, spec.budget.trials)


def _told(seen: SweepSight) -> Iterator[Trial]:
    """The trials about which there is something new, in the order of their numbers."""
    spec = seen.sweep.spec
    known = {trial.number: trial for trial in seen.trials}
    for number in sorted(known):
        trial = known[number]
        if trial.phase is not TrialPhase.RUNNING:
            continue
        job = seen.jobs.get(number)
        after = (
            _ended(trial, job, spec, seen) if job is None or job.phase in FINAL else _judged(trial, job, spec, known)
        )
        if after != trial:
            known[number] = after
            yield after if after.phase is TrialPhase.RUNNING else replace(after, finished_at=seen.now)


def _ended(trial: Trial, job: Seen | None, spec: SweepSpec, seen: SweepSight) -> Trial:
    if job is None:
        return replace(trial, phase=TrialPhase.FAILED, message=GONE)
    trial = replace(trial, seconds=job.seconds, message=job.message[:2000])
    if job.phase is Phase.CANCELLED:
        return replace(trial, phase=TrialPhase.CANCELLED)
    if job.phase is Phase.FAILED:
        return replace(trial, phase=TrialPhase.FAILED)
    metric = spec.objective.metric
    if metric in job.metrics:
        return replace(trial, phase=TrialPhase.SUCCEEDED, value=job.metrics[metric], step=_step(job))
    if job.last is not None:
        return replace(trial, phase=TrialPhase.SUCCEEDED, value=job.last.value, step=job.last.step)
    there = ", ".join(sorted(job.metrics)) or "none"
    message = f"The job did not report the metric {metric!r}; it reported {there}."[:2000]
    return replace(trial, phase=TrialPhase.FAILED, message=message)


def _step(job: Seen) -> int | None:
    return None if job.last is None else job.last.step


def _judged(trial: Trial, job: Seen, spec: SweepSpec, known: Mapping[int, Trial]) -> Trial:
    """At each rung that it came to since the last look."""
    if spec.pruning is None:
        return trial
    for reached in job.reached:
        rung = len(trial.rungs)
        others = [each.rungs[rung] for each in known.values() if len(each.rungs) > rung]
        trial = replace(trial, rungs=(*trial.rungs, reached.value), value=reached.value, step=reached.step)
        if not pruning.goes_on(reached.value, others, spec.pruning.reduction, maximize=spec.objective.maximize):
            message = f"Pruned at step {reached.step}: not among the best 1/{spec.pruning.reduction} there."
            return replace(trial, phase=TrialPhase.PRUNED, seconds=job.seconds, message=message)
    return trial


def _over(seen: SweepSight, trials: Sequence[Trial]) -> tuple[SweepPhase, Reading] | None:
    """How the sweep ends, once none of its trials runs any more; None: it goes on."""
    sweep, budget = seen.sweep, seen.sweep.spec.budget
    if sweep.cancel_requested:
        return SweepPhase.CANCELLED, Reading(Cause.CANCELLED, "The sweep was cancelled.")
    if (failed := _failing(trials, sweep.spec.failures)) is not None:
        said = f"{sweep.spec.failures} trials in a row have failed; the last one: {failed.message}"
        return SweepPhase.FAILED, Reading(Cause.FAILING, said, FAILING_HINT)
    done = len(trials) >= _most(sweep.spec)
    if done and not any(trial.phase is TrialPhase.RUNNING for trial in trials):
        return _spent(sweep, trials, Cause.TRIALS, "")
    if budget.time is not None and seen.now >= sweep.created_at + budget.time:
        return _spent(sweep, trials, Cause.TIME, f"The sweep's {budget.time.total_seconds():g} s are over.")
    if budget.core_hours is not None and core_hours_of(seen) >= budget.core_hours:
        return _spent(sweep, trials, Cause.CORE_HOURS, f"The sweep's {budget.core_hours:g} core-hours are spent.")
    return None


def _spent(sweep: Sweep, trials: Sequence[Trial], cause: Cause, message: str) -> tuple[SweepPhase, Reading]:
    if best_of(trials, sweep.spec.objective) is not None:
        return SweepPhase.SUCCEEDED, Reading(cause, message)
    return SweepPhase.FAILED, Reading(Cause.NO_TRIAL, f"No trial ran to its end. {message}".strip(), NO_TRIAL_HINT)


FAILING_HINT = "Look at a trial's job; a space whose jobs can all work, or a larger `failures`, lets it go on."
NO_TRIAL_HINT = "Give it a larger budget, or run one of its trials as a job to see what is wrong."


def _failing(trials: Sequence[Trial], limit: int) -> Trial | None:
    """The last of the newest trials when so many failed one after the other."""
    ended = [trial for trial in trials if trial.phase is not TrialPhase.RUNNING]
    newest = sorted(ended, key=lambda trial: (trial.finished_at or trial.created_at, trial.number))[-limit:]
    if len(newest) == limit and all(trial.phase is TrialPhase.FAILED for trial in newest):
        return newest[-1]
    return None


def core_hours_of(seen: SweepSight) -> float:
    """What the sweep has used by now."""
    ended = sum(trial.seconds for trial in seen.trials if trial.phase is not TrialPhase.RUNNING)
    return (ended + sum(job.seconds for job in seen.jobs.values())) / 3600


def counts_of(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials are in each phase."""
    return {phase.value: sum(1 for trial in trials if trial.phase is phase) for phase in TrialPhase}


def event_of(sweep: Sweep, phase: SweepPhase, why: Reading, trials: Sequence[Trial], model: Any) -> dict[str, Any]:
    """The data of the event that says how the sweep ended."""
    best = best_of(trials, sweep.spec.objective)
    return {
        "sweep": str(sweep.id),
        "phase": phase,
        "reason": why.cause,
        "message": why.message,
        "trials": counts_of(trials),
        "best": None if best is None else best_to_json(best),
        "model": model,
    }


def best_to_json(best: Trial) -> dict[str, Any]:
    """The best trial, as the event and the wire say it."""
    return {
        "number": best.number,
        "job": str(best.job_id),
        "value": best.value,
        "parameters": dict(best.parameters),
    }
