"""Bring every sweep to its end: tell how trials ended, stop those that are not worth it, begin others, record it all.

A look reads, decides, asks for parameters with no transaction open, and writes in one transaction that holds only with
its lease: a trial and its job are made together, once.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors, events, leases, tracing
from kit.blobs import BlobStore
from kit.clients import Principal
from kit.db import NOW
from kit.failpoints import failpoint
from kit.ids import uuid7
from kit.leases import LeaseLost
from kit.roles import Role
from trainer.actions import SERVICE, add_job
from trainer.clients.registry import RegistryClient, is_passing
from trainer.domain.manifests import manifest_of
from trainer.domain.sweeps import (
    ENDED,
    Cause,
    Reading,
    Sweep,
    SweepPhase,
    Trial,
    TrialPhase,
    best_of,
    cores_of,
    with_parameters,
)
from trainer.domain.trials import (
    Decision,
    Seen,
    SweepSight,
    best_to_json,
    core_hours_of,
    counts_of,
    event_of,
    next_decision,
)
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.sweeps import SweepStore
from trainer.store.tables import sweeps
from trainer.sweeping import study

log = logging.getLogger(__name__)
TTL = timedelta(seconds=30)
"""Of a sweep, by a replica. To rebuild a study of a thousand trials takes a second or two."""
SOON = timedelta(seconds=1)
REFUSED_HINT = "Run a job with the best trial's parameters once the registry takes such a model."

SETTLED = Counter("trainyard_trainer_sweeps_total", "Sweeps that ended.", ["phase", "reason"])
TOLD = Counter("trainyard_trainer_trials_total", "Trials of sweeps that ended.", ["phase"])


@dataclass(frozen=True)
class Work:
    """A decision, and what was found out for it."""

    decision: Decision
    chosen: Mapping[int, dict[str, Any]]
    """The parameters of the trials that begin."""
    summary: dict[str, Any]
    model: dict[str, Any] | None = None


class Sweeping:
    """What every replica does with a sweep that it has leased."""

    def __init__(
        self, engine: AsyncEngine, store: BlobStore, registry: RegistryClient, *, ttl: timedelta = TTL
    ) -> None:
        self._engine = engine
        self._store = store
        self._registry = registry
        self._ttl = ttl

    async def reconcile(self, lease: leases.Lease) -> None:
        seen = await self._sight(lease)
        if seen is None:
            return  # forgotten since
        decision = next_decision(seen)
        tracing.note(begun=len(decision.begin), told=len(decision.changed))
        if decision == Decision(due_in=decision.due_in):
            tracing.skip()
        model = None
        try:
            async with leases.kept(self._engine, sweeps, lease, ttl=self._ttl):
                if decision.register is not None:
                    decision, model = await self._register(seen.sweep, decision, decision.register)
                chosen, summary = await asyncio.to_thread(_asked, seen, decision)
            failpoint("trainer.sweep_recorded.before_commit")
            async with self._engine.begin() as connection:
                await _write(connection, lease, seen, Work(decision, chosen, summary, model))
        except LeaseLost:
            log.warning("fenced", extra={"sweep": str(lease.id), "fence": lease.fence})
            async with self._engine.begin() as connection:  # all of it was rolled back, also that it was given back
                await leases.record(
                    connection, sweeps, lease, generation=seen.sweep.generation, final=ENDED, due_in=timedelta(0)
                )
            return
        failpoint("trainer.sweep_recorded.after_commit")
        _count(seen, decision)

    async def _register(self, sweep: Sweep, decision: Decision, best: Trial) -> tuple[Decision, dict[str, Any] | None]:
        """The best trial's model as a version, or what came of that: another end, or another look."""
        try:
            manifest = await self._manifest(sweep, best)
            principal = Principal(sweep.project, Role.EDITOR, sweep.subject)
            return decision, await self._registry.make_version(principal, str(sweep.spec.model), manifest, self._store)
        except errors.Error as exc:
            if is_passing(exc):
                later = Reading(Cause.REGISTERING, exc.detail)
                return Decision(commit=later, due_in=exc.retry_after or SOON), None
            why = Reading(Cause.REGISTRATION_REFUSED, f"The model was not registered: {exc.detail}", REFUSED_HINT)
            return replace(decision, settle=(SweepPhase.FAILED, why)), None

    async def _manifest(self, sweep: Sweep, best: Trial) -> dict[str, Any]:
        """
        Raises:
            JobNotFound: the job was deleted, and the model with it.
            errors.Invalid: there never was one.
        """
        async with self._engine.begin() as connection:
            job = await JobStore(connection).get(sweep.project, best.job_id)
            attempt = await AttemptStore(connection).newest(job)
        if attempt is None or attempt.result is None or attempt.result.model is None:
            raise errors.Invalid("The best trial handed over no model.")
        return manifest_of(job, attempt)

    async def _sight(self, lease: leases.Lease) -> SweepSight | None:
        async with self._engine.begin() as connection:
            store = SweepStore(connection)
            sweep = await store.find(lease.project, lease.id)
            if sweep is None:
                return None
            trials = await store.trials(sweep)
            jobs = await _jobs(connection, sweep, [trial for trial in trials if trial.phase is TrialPhase.RUNNING])
            return SweepSight(sweep, trials, jobs, await store.now())


async def _jobs(connection: AsyncConnection, sweep: Sweep, live: Sequence[Trial]) -> dict[int, Seen]:
    store, spec = SweepStore(connection), sweep.spec
    metric, cores = spec.objective.metric, cores_of(spec.job)
    ran = await store.seconds(sweep.project, [trial.job_id for trial in live])
    found: dict[int, Seen] = {}
    for trial in live:
        job = await JobStore(connection).find(sweep.project, trial.job_id)
        if job is None:
            continue
        rule, judged = spec.pruning, len(trial.rungs)
        found[trial.number] = Seen(
            phase=job.phase,
            metrics=job.metrics,
            message=job.why.message,
            reached=() if rule is None else await store.reached(sweep.project, job.id, metric, rule, judged=judged),
            last=await store.last(sweep.project, job.id, metric),
            seconds=ran.get(job.id, 0.0) * cores,
        )
    return found


def _asked(seen: SweepSight, decision: Decision) -> tuple[Mapping[int, dict[str, Any]], dict[str, Any]]:
    """The parameters of the trials that are to begin, and what the sweep has come to. It takes processor."""
    spec = seen.sweep.spec
    known = {trial.number: trial for trial in (*seen.trials, *decision.changed)}
    trials = [known[number] for number in sorted(known)]
    chosen = study.parameters_of(spec, trials, decision.begin)
    best, counts = best_of(trials, spec.objective), counts_of(trials)
    counts[TrialPhase.RUNNING] += len(chosen)
    weights = study.importance(spec, trials) if decision.changed else seen.sweep.summary.get("importance", {})
    summary = {
        "trials": counts,
        "best": None if best is None else best_to_json(best),
        "importance": weights,
        "core_hours": core_hours_of(seen),
    }
    return chosen, summary


async def _write(connection: AsyncConnection, lease: leases.Lease, seen: SweepSight, work: Work) -> None:
    """All of a decision, or nothing.

    Raises:
        LeaseLost: somebody else has the sweep by now, or something else is wanted of it.
    """
    sweep, store, decision = seen.sweep, SweepStore(connection), work.decision
    for trial in sorted(decision.stop, key=lambda each: each.job_id):
        await _stop(connection, sweep, trial)
    for number, parameters in work.chosen.items():
        await _begin(connection, sweep, number, parameters)
    for trial in decision.changed:
        await store.change_trial(sweep, trial)
    values: dict[str, Any] = {"summary": work.summary, "why": decision.commit}
    if decision.settle is not None:
        phase, why = decision.settle
        values |= {"phase": phase, "why": why, "finished_at": NOW, "model": work.model}
    if not await store.record(lease, sweep, due_in=decision.due_in, **values):
        raise LeaseLost
    if decision.settle is not None:
        await _tell(connection, seen, work)
    if decision.stop or work.chosen:
        await leases.hint(connection, SERVICE)


async def _stop(connection: AsyncConnection, sweep: Sweep, trial: Trial) -> None:
    try:
        await JobStore(connection).request_cancel(sweep.project, trial.job_id)
    except (errors.Conflict, errors.NotFound):
        log.info("over already", extra={"sweep": str(sweep.id), "trial": trial.number})


async def _begin(connection: AsyncConnection, sweep: Sweep, number: int, parameters: Mapping[str, Any]) -> None:
    trial = Trial(number=number, job_id=uuid7(), parameters=parameters, created_at=sweep.created_at)
    spec = with_parameters(sweep.spec.job, parameters)
    try:
        async with connection.begin_nested():
            job = await add_job(connection, project=sweep.project, subject=sweep.subject, spec=spec)
        trial = replace(trial, job_id=job.id)
    except errors.Error as exc:  # its bundle is gone: the others of its trials will say the same
        trial = replace(trial, phase=TrialPhase.FAILED, message=exc.detail[:2000])
    if not await SweepStore(connection).add_trial(sweep, trial):
        raise LeaseLost


async def _tell(connection: AsyncConnection, seen: SweepSight, work: Work) -> None:
    assert work.decision.settle is not None
    phase, why = work.decision.settle
    known = {trial.number: trial for trial in (*seen.trials, *work.decision.changed)}
    data = event_of(seen.sweep, phase, why, list(known.values()), work.model)
    await events.emit(connection, seen.sweep.project, f"sweep.{phase}", str(seen.sweep.id), data)


def _count(seen: SweepSight, decision: Decision) -> None:
    for trial in decision.changed:
        if trial.phase is not TrialPhase.RUNNING:
            TOLD.labels(trial.phase).inc()
    if decision.settle is not None:
        phase, why = decision.settle
        SETTLED.labels(phase, why.cause).inc()
        log.info("settled", extra={"sweep": str(seen.sweep.id), "phase": SweepPhase(phase), "reason": why.cause})
