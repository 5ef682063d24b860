"""Any number of replicas bring every sweep to its end, and no kill loses or doubles a trial."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from jobs_at_work import told
from sqlalchemy.ext.asyncio import AsyncEngine
from sweeps_at_work import add_sweep, end_all, end_job, hill, lease_sweep, look_at, run_all, turn_sweeps

from kit import leases, reconcile
from kit.testing import eventually
from trainer.domain.jobs import Phase
from trainer.domain.spaces import Choice, Whole
from trainer.domain.sweeps import Algorithm, Budget, Method, Sweep
from trainer.domain.trials import SweepSight
from trainer.store import tables
from trainer.store.sweeps import SweepStore
from trainer.sweeping import reconcile as module
from trainer.sweeping.reconcile import Sweeping

GRID = {"max_depth": Whole(1, 10), "min_impurity_decrease": Choice((0.001, 0.1))}


async def let_leases_run_out(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        passed = sa.func.clock_timestamp() - timedelta(seconds=1)
        await connection.execute(sa.update(tables.sweeps).values(lease_until=passed, due_at=passed))


async def jobs_of(engine: AsyncEngine) -> int:
    async with engine.begin() as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(tables.jobs))).scalar_one())


class Meanwhile(Sweeping):
    """Something happens between what a look reads and what it writes."""

    def __init__(self, whole: Sweeping, act: Callable[[], Awaitable[object]]) -> None:
        super().__init__(whole._engine, whole._store, whole._registry)
        self._act = act

    async def _sight(self, lease: leases.Lease) -> SweepSight | None:
        seen = await super()._sight(lease)
        await self._act()
        return seen


async def test_two_replicas_share_the_sweeps_and_do_all_of_it_once(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweeps = [await add_sweep(engine, budget=Budget(6), parallelism=2) for _ in range(4)]
    looked: Counter[str] = Counter()
    stop = asyncio.Event()

    def replica(name: str) -> Callable[[leases.Lease], Awaitable[None]]:
        async def one(leased: leases.Lease) -> None:
            await sweeping.reconcile(leased)
            looked[name] += 1

        return one

    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            one = replica(name)
            group.create_task(reconcile.controller(engine, tables.sweeps, one, workers=1, poll=0.02, stop=stop))

        async def all_settled() -> bool:
            for sweep in sweeps:
                await end_all(engine, sweep, hill)
            return len(await told(engine)) == len(sweeps)

        await eventually(all_settled, timedelta(seconds=60))
        stop.set()
    for sweep in sweeps:
        ended, trials = await look_at(engine, sweep)
        assert (ended.phase, len(trials)) == ("succeeded", 6)
    assert await jobs_of(engine) == 24
    assert min(looked["a"], looked["b"]) > 0


async def test_a_replica_whose_lease_ran_out_begins_nothing(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine)
    stale = await lease_sweep(engine)
    await let_leases_run_out(engine)
    await lease_sweep(engine)
    await sweeping.reconcile(stale)
    assert (await look_at(engine, sweep))[1] == []
    assert await jobs_of(engine) == 0


async def test_a_trial_that_another_replica_has_begun_is_not_begun_again(
    engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine)

    async def another_goes_on() -> None:
        await let_leases_run_out(engine)
        await turn_sweeps(engine, sweeping)

    await Meanwhile(sweeping, another_goes_on).reconcile(await lease_sweep(engine))
    assert len((await look_at(engine, sweep))[1]) == 1
    assert await jobs_of(engine) == 1


async def test_a_cancel_in_the_middle_is_what_counts_and_is_looked_at_at_once(
    engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine)

    async def cancel() -> None:
        async with engine.begin() as connection:
            await SweepStore(connection).request_cancel("blue", sweep.id)

    await Meanwhile(sweeping, cancel).reconcile(await lease_sweep(engine))
    await turn_sweeps(engine, sweeping)
    assert (await look_at(engine, sweep))[0].phase == "cancelled"
    assert await jobs_of(engine) == 0


async def test_the_end_of_a_job_in_the_middle_of_a_look_makes_the_sweep_due_again(
    engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine, parallelism=2)
    await turn_sweeps(engine, sweeping)
    _, [first, _] = await look_at(engine, sweep)
    await let_leases_run_out(engine)

    async def ends() -> None:
        await end_job(engine, first.job_id, Phase.SUCCEEDED, metrics={"roc_auc": 0.5})

    await Meanwhile(sweeping, ends).reconcile(await lease_sweep(engine))
    await turn_sweeps(engine, sweeping)  # it is due, although the look was recorded
    assert [trial.phase for trial in (await look_at(engine, sweep))[1]] == ["succeeded", "running", "running"]


class Killed(Exception):
    """As a process that is no more."""


class Mortal(Sweeping):
    """Dies before its transaction, in it, or after it, as chance has it."""

    def __init__(self, whole: Sweeping, chance: random.Random) -> None:
        super().__init__(whole._engine, whole._store, whole._registry)
        self.chance = chance
        self.kills = 0

    async def reconcile(self, lease: leases.Lease) -> None:
        seen = await self._sight(lease)
        assert seen is not None
        decision = module.next_decision(seen)
        chosen, summary = module._asked(seen, decision)
        moment = self.chance.choice(["before", "within", "after", "never"])
        if moment == "before":
            raise Killed
        async with self._engine.begin() as connection:
            await module._write(connection, lease, seen, module.Work(decision, chosen, summary))
            if moment == "within":
                raise Killed
        if moment == "after":
            raise Killed


async def run_with_kills(engine: AsyncEngine, sweep: Sweep, mortal: Mortal) -> None:
    for _ in range(500):
        try:
            await turn_sweeps(engine, mortal)
        except Killed:
            mortal.kills += 1
            await let_leases_run_out(engine)
        await end_all(engine, sweep, hill)
        if (await look_at(engine, sweep))[0].phase != "running":
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize("method", list(Method))
async def test_after_ten_kills_the_trials_are_those_of_a_sweep_that_was_never_killed(
    engine: AsyncEngine, sweeping: Sweeping, method: Method
) -> None:
    given: dict[str, Any] = {"budget": Budget(20), "algorithm": Algorithm(method, startup=5)}
    if method is Method.GRID:
        given["space"] = GRID
    _, unbroken = await run_all(engine, sweeping, await add_sweep(engine, **given), hill)
    mortal = Mortal(sweeping, random.Random(3))
    sweep = await add_sweep(engine, **given)
    await run_with_kills(engine, sweep, mortal)
    ended, trials = await look_at(engine, sweep)
    assert mortal.kills >= 10
    assert ended.phase == "succeeded"
    assert shown(trials) == shown(unbroken)
    assert await jobs_of(engine) == 40
    assert [event.kind for event in await told(engine)] == ["sweep.succeeded"] * 2


def shown(trials: Sequence[Any]) -> list[Any]:
    return [(trial.number, trial.phase, trial.parameters, trial.value) for trial in trials]
