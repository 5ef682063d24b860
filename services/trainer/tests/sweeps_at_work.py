"""Sweeps as a reconciler meets them, and jobs that end as a test wants."""

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from makers import spec_of
from requests_made import BODY, TTL
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases
from kit.ids import uuid7
from trainer.api.sweep_schemas import SweepIn
from trainer.domain.jobs import FINAL, NO_REASON, Phase, Why
from trainer.domain.reports import Point
from trainer.domain.spaces import Real, Whole
from trainer.domain.sweeps import Algorithm, Budget, Direction, Objective, Sweep, SweepSpec, Trial
from trainer.store import tables
from trainer.store.attempts import COLUMNS, AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.reports import ReportStore
from trainer.store.sweeps import SweepStore
from trainer.sweeping.reconcile import Sweeping

DEPTHS = {"max_depth": {"type": "int", "low": 1, "high": 10}}
SWEEP: dict[str, Any] = {
    "job": BODY,
    "space": DEPTHS | {"min_impurity_decrease": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
    "objective": {"metric": "roc_auc"},
    "budget": {"trials": 4},
}
ASKED = SweepIn.model_validate(SWEEP).document()
Worth = Callable[[Mapping[str, Any]], float]


def sweep_spec_of(**given: Any) -> SweepSpec:
    values: dict[str, Any] = {
        "job": replace(spec_of(), model=None),
        "space": {"max_depth": Whole(1, 10), "min_impurity_decrease": Real(0.001, 0.1, log=True)},
        "objective": Objective("roc_auc", Direction.MAXIMIZE),
        "algorithm": Algorithm(),
        "pruning": None,
        "parallelism": 1,
        "budget": Budget(4),
    }
    return SweepSpec(**values | given)


async def add_sweep(engine: AsyncEngine, *, project: str = "blue", **given: Any) -> Sweep:
    """What is said of the job and not of the sweep is the job's."""
    job = {name: given.pop(name) for name in list(given) if name not in SweepSpec.__dataclass_fields__}
    async with engine.begin() as connection:
        spec = sweep_spec_of(job=replace(spec_of(**job), model=None), **given)
        return await SweepStore(connection).add(uuid7(), project=project, subject="ada", spec=spec, asked=ASKED)


async def lease_sweep(engine: AsyncEngine, ttl: timedelta = TTL) -> leases.Lease:
    async with engine.begin() as connection:
        [leased] = await leases.lease_due(connection, tables.sweeps, 1, ttl=ttl)
        return leased


async def look_at(engine: AsyncEngine, sweep: Sweep) -> tuple[Sweep, Sequence[Trial]]:
    async with engine.begin() as connection:
        store = SweepStore(connection)
        found = await store.get(sweep.project, sweep.id)
        return found, await store.trials(found)


async def turn_sweeps(engine: AsyncEngine, sweeping: Sweeping, times: int = 10) -> None:
    """Look at what is due until nothing is."""
    for _ in range(times):
        async with engine.begin() as connection:
            due = await leases.lease_due(connection, tables.sweeps, 10, ttl=TTL)
        if not due:
            return
        for each in due:
            await sweeping.reconcile(each)


async def end_job(
    engine: AsyncEngine,
    job_id: uuid.UUID,
    phase: Phase,
    *,
    metrics: dict[str, float] | None = None,
    why: Why = NO_REASON,
) -> None:
    """As the reconciler of jobs does at a job's end."""
    async with engine.begin() as connection:
        store = JobStore(connection)
        await store.wake("blue", job_id)
        job = await store.find("blue", job_id)
        assert job is not None
        [leased] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL, where=[tables.jobs.c.id == job_id])
        assert await store.settle(leased, job, phase=phase, why=why, metrics=metrics)
        await SweepStore(connection).wake_of(job)


async def report(
    engine: AsyncEngine, trial: Trial, said: Sequence[tuple[int, float]], *, name: str = "roc_auc"
) -> None:
    """The trial's job reports values of a metric: steps and values."""
    async with engine.begin() as connection:
        values = {"project": "blue", "id": uuid7(), "job_id": trial.job_id, "number": 1, "phase": "running"}
        attempt = (await connection.execute(sa.insert(tables.attempts).values(values).returning(*COLUMNS))).one()
        found = [
            Point(number=number, at=datetime.now(UTC), name=name, value=value, step=step)
            for number, (step, value) in enumerate(said, 1)
        ]
        await ReportStore(connection).add_points(await AttemptStore(connection).get("blue", attempt.id), "job", found)
        await connection.execute(sa.update(tables.sweeps).values(due_at=sa.func.now()))


async def end_all(engine: AsyncEngine, sweep: Sweep, worth: Worth) -> None:
    """Every trial that runs succeeds, and is worth what its parameters are."""
    for trial in (await look_at(engine, sweep))[1]:
        async with engine.begin() as connection:
            job = await JobStore(connection).get(sweep.project, trial.job_id)
        if job.phase not in FINAL:
            await end_job(engine, trial.job_id, Phase.SUCCEEDED, metrics={"roc_auc": worth(trial.parameters)})


async def run_all(engine: AsyncEngine, sweeping: Sweeping, sweep: Sweep, worth: Worth) -> tuple[Sweep, Sequence[Trial]]:
    """The sweep at its end."""
    for _ in range(200):
        await turn_sweeps(engine, sweeping)
        found, trials = await look_at(engine, sweep)
        if found.phase != "running":
            return found, trials
        await end_all(engine, sweep, worth)
    raise AssertionError("it never ends")


def hill(parameters: Mapping[str, Any]) -> float:
    """Best at a depth of 7 and a decrease of 0.01."""
    return 1 - abs(parameters["max_depth"] - 7) / 10 - abs(math.log10(parameters["min_impurity_decrease"]) + 2) / 4
