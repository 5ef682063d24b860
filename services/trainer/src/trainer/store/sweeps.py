"""Sweeps and their trials in the database. Every statement about these two tables is in this file.

Whoever needs the rows of jobs and of their sweep locks the jobs' first: the end of a job wakes its sweep.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import leases
from kit.db import NOW
from trainer.domain import spaces
from trainer.domain.jobs import Job, JobSpec
from trainer.domain.pruning import RUNGS, Pruning, Reached
from trainer.domain.sweeps import (
    ENDED,
    Algorithm,
    Budget,
    Cause,
    Direction,
    Method,
    Objective,
    Reading,
    Sweep,
    SweepFinished,
    SweepNotFound,
    SweepPhase,
    SweepRunning,
    SweepSpec,
    Trial,
    TrialPhase,
)
from trainer.store.jobs import document_of, spec_of
from trainer.store.tables import attempts, points, sweeps, trials

SWEEPS = "trainer_sweeps"
"""The channel on which it is told that a sweep is due."""
_NOT_READ = {"due_at", "fence", "lease_until", "traceparent"}
COLUMNS = [column for column in sweeps.c if column.name not in _NOT_READ]
_TRIAL = [trials.c[field.name] for field in fields(Trial)]


class SweepStore:
    """Reads and writes sweeps and trials in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, sweep_id: uuid.UUID, *, project: str, subject: str, spec: SweepSpec, asked: Mapping[str, Any]
    ) -> Sweep:
        """A new sweep. Its row is the queue entry."""
        values = {"id": sweep_id, "project": project, "subject": subject, "spec": _document(spec), "asked": asked}
        row = (await self._connection.execute(sa.insert(sweeps).values(values).returning(*COLUMNS))).one()
        return _sweep(row)

    async def get(self, project: str, sweep_id: uuid.UUID) -> Sweep:
        """
        Raises:
            SweepNotFound: there is none.
        """
        found = await self.find(project, sweep_id)
        if found is None:
            raise SweepNotFound(f"There is no sweep {sweep_id}.")
        return found

    async def find(self, project: str, sweep_id: uuid.UUID) -> Sweep | None:
        """The sweep, or None."""
        row = (await self._connection.execute(sa.select(*COLUMNS).where(_is(project, sweep_id)))).one_or_none()
        return None if row is None else _sweep(row)

    async def page(self, project: str, *, before: uuid.UUID | None, limit: int) -> Sequence[Sweep]:
        """The newest first: ids sort by time."""
        of = [sweeps.c.project == project, *([] if before is None else [sweeps.c.id < before])]
        query = sa.select(*COLUMNS).where(*of).order_by(sweeps.c.id.desc()).limit(limit)
        return [_sweep(row) for row in await self._connection.execute(query)]

    async def trials(self, sweep: Sweep) -> Sequence[Trial]:
        """All of a sweep, in the order of their numbers."""
        of = sa.and_(trials.c.project == sweep.project, trials.c.sweep_id == sweep.id)
        found = await self._connection.execute(sa.select(*_TRIAL).where(of).order_by(trials.c.number))
        return [_trial(row) for row in found]

    async def request_cancel(self, project: str, sweep_id: uuid.UUID) -> Sweep:
        """Ask for the end of the sweep. Asking again is asking.

        Raises:
            SweepFinished: it has ended, or its best trial's model is being registered.
            SweepNotFound: there is none.
        """
        wanted = sa.and_(_is(project, sweep_id), sweeps.c.phase.not_in(ENDED), sweeps.c.reason != Cause.REGISTERING)
        values = {"cancel_requested": True, "generation": sweeps.c.generation + 1, "due_at": NOW}
        row = (
            await self._connection.execute(sa.update(sweeps).where(wanted).values(values).returning(*COLUMNS))
        ).one_or_none()
        if row is not None:
            return _sweep(row)
        sweep = await self.get(project, sweep_id)
        state = sweep.phase if sweep.phase in ENDED else "registering the best of its models"
        raise SweepFinished(f"Sweep {sweep_id} is already {state}.")

    async def remove(self, project: str, sweep_id: uuid.UUID) -> None:
        """Forget a sweep that has ended. Its jobs stay.

        Raises:
            SweepRunning: it has not ended.
            SweepNotFound: there is none.
        """
        sweep = await self.get(project, sweep_id)
        if sweep.phase not in ENDED:
            raise SweepRunning(f"Sweep {sweep_id} is {sweep.phase}; cancel it first.")
        await self._remove(sweeps.c.project == project, sweeps.c.id == sweep_id)

    async def retire(self, age: timedelta) -> None:
        """Forget the sweeps that ended longer ago than that."""
        await self._remove(sweeps.c.finished_at < NOW - age)

    async def _remove(self, *of: sa.ColumnElement[bool]) -> None:
        gone = sa.select(sweeps.c.project, sweeps.c.id).where(*of, sweeps.c.phase.in_(ENDED))
        await self._connection.execute(
            sa.delete(trials).where(sa.tuple_(trials.c.project, trials.c.sweep_id).in_(gone))
        )
        await self._connection.execute(sa.delete(sweeps).where(*of, sweeps.c.phase.in_(ENDED)))

    async def wake_of(self, job: Job) -> None:
        """A job has ended: look again at the sweep that it is a trial of, if it is one.

        No other generation: where the ends of jobs come fast, the sweep's owner could never record anything.
        """
        mine = sa.select(trials.c.sweep_id).where(trials.c.project == job.project, trials.c.job_id == job.id)
        woken = sa.update(sweeps).where(
            sweeps.c.project == job.project, sweeps.c.id == mine.scalar_subquery(), sweeps.c.phase.not_in(ENDED)
        )
        if (await self._connection.execute(woken.values(woken=sweeps.c.woken + 1, due_at=NOW))).rowcount:
            await leases.hint(self._connection, SWEEPS)

    async def record(
        self,
        lease: leases.Lease,
        seen: Sweep,
        *,
        due_in: timedelta | None,
        why: Reading | None = None,
        **values: object,
    ) -> bool:
        """Record what the owner of the lease did for the sweep it saw, and give the lease back.

        Woken in between, it stays due.
        """
        if due_in is not None:
            values["due_at"] = sa.case((sweeps.c.woken == seen.woken, NOW + due_in), else_=NOW)
        if why is not None:
            values |= {"reason": why.cause, "message": why.message[:2000], "hint": why.hint[:2000]}
        return await leases.record(
            self._connection, sweeps, lease, generation=seen.generation, final=ENDED, due_in=due_in, **values
        )

    async def add_trial(self, sweep: Sweep, trial: Trial) -> bool:
        """A new trial. False when another replica has made one of that number."""
        values = {
            "project": sweep.project,
            "sweep_id": sweep.id,
            **{name: getattr(trial, name) for name in ("number", "job_id", "phase", "message")},
            "parameters": dict(trial.parameters),
            "finished_at": None if trial.phase is TrialPhase.RUNNING else NOW,
        }
        added = pg.insert(trials).values(values).on_conflict_do_nothing().returning(trials.c.number)
        return (await self._connection.execute(added)).first() is not None

    async def change_trial(self, sweep: Sweep, trial: Trial) -> None:
        """As it is from now on."""
        of = sa.and_(trials.c.project == sweep.project, trials.c.sweep_id == sweep.id, trials.c.number == trial.number)
        names = ("phase", "value", "step", "seconds", "message", "finished_at")
        values = {name: getattr(trial, name) for name in names} | {"rungs": list(trial.rungs)}
        await self._connection.execute(sa.update(trials).where(of, trials.c.phase == TrialPhase.RUNNING).values(values))

    async def seconds(self, project: str, jobs: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, float]:
        """For how long the attempts at each of the jobs have run by now."""
        ran = sa.func.extract("epoch", sa.func.coalesce(attempts.c.finished_at, NOW) - attempts.c.started_at)
        query = (
            sa.select(attempts.c.job_id, sa.func.sum(ran))
            .where(attempts.c.project == project, attempts.c.job_id.in_(jobs), attempts.c.started_at.is_not(None))
            .group_by(attempts.c.job_id)
        )
        return {job: float(seconds) for job, seconds in await self._connection.execute(query)}

    async def last(self, project: str, job_id: uuid.UUID, metric: str) -> Reached | None:
        """The newest report of the furthest step."""
        query = _reports(project, job_id, metric).order_by(points.c.step.desc(), points.c.id.desc()).limit(1)
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else Reached(row.step, row.value)

    async def reached(
        self, project: str, job_id: uuid.UUID, metric: str, rule: Pruning, *, judged: int
    ) -> tuple[Reached, ...]:
        """What was reported at each rung beyond those `judged`: the newest report of the first step at or after it."""
        found: list[Reached] = []
        while judged + len(found) < RUNGS:
            step = rule.step_of(judged + len(found))
            if found and found[-1].step >= step:
                found.append(found[-1])  # one report may be the first after several rungs
                continue
            query = _reports(project, job_id, metric).where(points.c.step >= min(step, _FURTHEST))
            row = (
                await self._connection.execute(query.order_by(points.c.step, points.c.id.desc()).limit(1))
            ).one_or_none()
            if row is None:
                break
            found.append(Reached(row.step, row.value))
        return tuple(found)

    async def now(self) -> datetime:
        """The database's clock."""
        now: datetime = (await self._connection.execute(sa.select(NOW))).scalar_one()
        return now


_FURTHEST = 2**62


def _reports(project: str, job_id: uuid.UUID, metric: str) -> sa.Select[tuple[int, float]]:
    of = sa.and_(points.c.project == project, points.c.job_id == job_id, points.c.name == metric)
    return sa.select(points.c.step, points.c.value).where(of)


def _is(project: str, sweep_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(sweeps.c.project == project, sweeps.c.id == sweep_id)


def _document(spec: SweepSpec) -> dict[str, Any]:
    budget, pruning = spec.budget, spec.pruning
    return {
        "job": document_of(spec.job),
        "space": spaces.to_json(spec.space),
        "objective": {"metric": spec.objective.metric, "direction": spec.objective.direction},
        "algorithm": {
            "method": spec.algorithm.method,
            "seed": spec.algorithm.seed,
            "startup": spec.algorithm.startup,
        },
        "pruning": None if pruning is None else {"first": pruning.first, "reduction": pruning.reduction},
        "parallelism": spec.parallelism,
        "budget": {
            "trials": budget.trials,
            "time": None if budget.time is None else budget.time.total_seconds(),
            "core_hours": budget.core_hours,
        },
        "failures": spec.failures,
        "model": spec.model,
    }


def _spec(document: dict[str, Any]) -> SweepSpec:
    objective, algorithm, budget = document["objective"], document["algorithm"], document["budget"]
    job: JobSpec = spec_of(document["job"])
    time = None if budget["time"] is None else timedelta(seconds=budget["time"])
    return SweepSpec(
        **document
        | {
            "job": job,
            "space": spaces.from_json(document["space"]),
            "objective": Objective(objective["metric"], Direction(objective["direction"])),
            "algorithm": Algorithm(**algorithm | {"method": Method(algorithm["method"])}),
            "pruning": None if document["pruning"] is None else Pruning(**document["pruning"]),
            "budget": Budget(**budget | {"time": time}),
        }
    )


def _sweep(row: sa.Row[Any]) -> Sweep:
    values = dict(row._mapping)
    why = Reading(Cause(values.pop("reason")), values.pop("message"), values.pop("hint"))
    return Sweep(**values | {"spec": _spec(values["spec"]), "phase": SweepPhase(values["phase"]), "why": why})


def _trial(row: sa.Row[Any]) -> Trial:
    values = dict(row._mapping)
    return Trial(**values | {"phase": TrialPhase(values["phase"]), "rungs": tuple(values["rungs"])})
