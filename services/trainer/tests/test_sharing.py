"""Quotas, priorities and usage: who is let in, who waits and why, who makes way, and what it all adds up to."""

import dataclasses
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from jobs_at_work import begin, fail, look, newest, pass_time, turn
from makers import add_job
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.ids import uuid7
from trainer import actions, admission
from trainer.domain import steps
from trainer.domain.jobs import Job, Phase, Reason, Why
from trainer.domain.leased import LIVE, Attempt, AttemptPhase
from trainer.domain.resources import Amount, Resources
from trainer.domain.sharing import Period, Quota, Standing, Took
from trainer.reconcile import Reconciler
from trainer.store import tables
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.ledger import LedgerStore
from trainer.store.shares import ShareStore

pytestmark = pytest.mark.usefixtures("world")
FIRST, LAST = date(2020, 1, 1), date(2099, 1, 1)
CRASH = Why(Reason.CRASHED, "It fell over.")


async def put(engine: AsyncEngine, project: str = "blue", **quota: Any) -> None:
    async with engine.begin() as connection:
        await ShareStore(connection).put(project, Quota(**quota))
        await admission.let_next_in(connection, project)


async def standing(engine: AsyncEngine, project: str = "blue") -> Standing:
    async with engine.begin() as connection:
        return await ShareStore(connection).standing(project)


async def reason(engine: AsyncEngine, job: Job) -> Reason:
    return (await look(engine, job)).why.reason


async def position(engine: AsyncEngine, job: Job) -> int | None:
    job = await look(engine, job)
    async with engine.begin() as connection:
        return await actions.position_of(connection, job)


async def is_queued(engine: AsyncEngine, job: Job) -> bool:
    async with engine.begin() as connection:
        attempt = await AttemptStore(connection).newest(job)
    return attempt is not None and attempt.phase in LIVE


async def asked(engine: AsyncEngine, worker: Reconciler, **resources: int) -> Job:
    """A job that a reconciler has come to."""
    job = await add_job(engine, resources=Resources(**resources))
    await turn(engine, worker)
    return job


async def took(engine: AsyncEngine, project: str = "blue") -> Took:
    async with engine.begin() as connection:
        return await LedgerStore(connection).total(project, first=FIRST, last=LAST)


async def started_before(engine: AsyncEngine, attempt: Attempt, by: timedelta) -> None:
    """As if its runner had begun it so much earlier."""
    of = tables.attempts.c.id == attempt.id
    async with engine.begin() as connection:
        moved = sa.update(tables.attempts).where(of).values(started_at=tables.attempts.c.started_at - by)
        await connection.execute(moved)


async def made_before(engine: AsyncEngine, by: timedelta) -> None:
    """As if all attempts had been queued so much earlier."""
    async with engine.begin() as connection:
        await connection.execute(sa.update(tables.attempts).values(created_at=tables.attempts.c.created_at - by))


async def test_a_job_beyond_its_quota_waits_and_goes_on_when_there_is_room(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    await put(engine, jobs=1)
    first, second, third = [await add_job(engine) for _ in range(3)]
    await turn(engine, worker)
    assert [await reason(engine, each) for each in (first, second, third)] == [
        Reason.WAITING_FOR_RUNNER,
        Reason.WAITING_FOR_QUOTA,
        Reason.WAITING_FOR_QUOTA,
    ]
    assert "1 jobs of 1 jobs in use" in (await look(engine, second)).why.message
    assert [await position(engine, each) for each in (first, second, third)] == [1, 1, 2]
    attempt = await begin(engine, first)
    await fail(engine, attempt, Why(Reason.USER_ERROR, "No."))
    await turn(engine, worker)
    assert [await reason(engine, each) for each in (first, second, third)] == [
        Reason.USER_ERROR,
        Reason.WAITING_FOR_RUNNER,
        Reason.WAITING_FOR_QUOTA,
    ]
    assert await position(engine, third) == 1


async def test_the_most_important_job_is_let_in_first_and_then_the_oldest(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    await put(engine, jobs=0)
    low, first, second, high = [await add_job(engine, priority=it) for it in (-5, 0, 0, 7)]
    await turn(engine, worker)
    assert [await position(engine, each) for each in (high, first, second, low)] == [1, 2, 3, 4]
    let_in = []
    for room in range(1, 5):
        await put(engine, jobs=room)
        await turn(engine, worker)
        let_in.append([each for each in (low, first, second, high) if await is_queued(engine, each)])
    assert let_in == [[high], [first, high], [first, second, high], [low, first, second, high]]


async def test_nobody_goes_past_one_that_waits_even_if_there_is_room_for_him(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    await put(engine, cpu_millis=4000)
    small, large, late = [await asked(engine, worker, cpu_millis=it) for it in (1000, 4000, 1000)]
    assert await is_queued(engine, small)
    assert await reason(engine, large) == await reason(engine, late) == Reason.WAITING_FOR_QUOTA
    assert "1 cpu of 4 cpu in use, 4 cpu asked for" in (await look(engine, large)).why.message
    assert (await look(engine, late)).why.message == "It waits for its turn. 1 job(s) of the project wait before it."
    async with engine.begin() as connection:
        await JobStore(connection).request_cancel("blue", large.id)
    await turn(engine, worker)
    assert (await look(engine, large)).phase is Phase.CANCELLED
    assert await is_queued(engine, late)


async def test_what_a_lowered_quota_can_never_hold_waits_in_nobody_s_way(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    await put(engine, gpus=1)
    large = await add_job(engine, resources=Resources(gpus=2))
    await turn(engine, worker)
    small = await add_job(engine)
    await turn(engine, worker)
    assert await reason(engine, large) is Reason.QUOTA_EXCEEDED
    assert await position(engine, large) is None
    assert await is_queued(engine, small)
    await put(engine, gpus=2)
    await pass_time(engine, admission.LOOK_AGAIN)
    await turn(engine, worker)
    assert await is_queued(engine, large)


async def test_projects_take_nothing_from_each_other(engine: AsyncEngine, worker: Reconciler) -> None:
    await put(engine, jobs=0)
    mine, theirs = await add_job(engine), await add_job(engine, project="red")
    await turn(engine, worker)
    assert not await is_queued(engine, mine)
    assert await is_queued(engine, theirs)
    assert (await standing(engine, "red")).used == theirs.spec.asks


async def test_a_less_important_job_of_the_project_makes_way_and_goes_on_afterwards(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    await put(engine, jobs=1)
    low = await add_job(engine, priority=-1, retries=0)
    await turn(engine, worker)
    running = await begin(engine, low)
    high = await add_job(engine)
    await turn(engine, worker)
    assert (await newest(engine, low)).preempted_for == high.id
    assert (await newest(engine, low)).stop_requested
    assert await reason(engine, high) is Reason.WAITING_FOR_QUOTA
    await fail(engine, running, CRASH)  # whatever the program makes of SIGTERM
    await turn(engine, worker)
    assert await is_queued(engine, high)
    stopped = await newest(engine, low)
    assert (stopped.phase, stopped.why.reason) == (AttemptPhase.STOPPED, Reason.PREEMPTED)
    assert await reason(engine, low) is Reason.WAITING_FOR_QUOTA
    await fail(engine, await begin(engine, high), Why(Reason.USER_ERROR, "No."))
    await turn(engine, worker)
    assert (await newest(engine, low)).number == 2
    assert (await look(engine, low)).why == admission.MADE_WAY


async def test_what_nobody_has_begun_makes_way_at_once(engine: AsyncEngine, worker: Reconciler) -> None:
    await put(engine, jobs=1)
    low = await add_job(engine, priority=-1)
    await turn(engine, worker)
    high = await add_job(engine)
    await turn(engine, worker)
    assert (await newest(engine, low)).phase is AttemptPhase.WITHDRAWN
    assert await is_queued(engine, high)
    assert (await standing(engine)).jobs == 1


async def test_nobody_is_stopped_for_nothing(engine: AsyncEngine, worker: Reconciler) -> None:
    await put(engine, cpu_millis=2000)
    low = await add_job(engine, priority=-1)
    equal = await add_job(engine)
    await turn(engine, worker)
    for each in (equal, low):
        await begin(engine, each)
    high = await add_job(engine, resources=Resources(cpu_millis=2000))
    await turn(engine, worker)
    assert await reason(engine, high) is Reason.WAITING_FOR_QUOTA
    assert not (await newest(engine, low)).stop_requested


async def test_an_attempt_that_no_runner_takes_has_a_less_important_one_make_way(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    low = await add_job(engine, project="red", priority=-1)
    other = await add_job(engine, project="red", priority=-2, resources=Resources(cpu_millis=500))
    await turn(engine, worker)
    victim = await begin(engine, low)
    await begin(engine, other)
    high = await add_job(engine)
    await turn(engine, worker)
    assert not (await newest(engine, low)).stop_requested  # a runner may come for it
    await pass_time(engine, steps.PATIENCE)
    await made_before(engine, steps.PATIENCE)
    await turn(engine, worker)
    assert (await newest(engine, low)).preempted_for == high.id
    assert not (await newest(engine, other)).stop_requested, "the one was enough"
    await pass_time(engine, steps.LOOK)
    await turn(engine, worker)
    assert not (await newest(engine, other)).stop_requested, "one is about to make way already"
    await fail(engine, victim, CRASH)
    await pass_time(engine, steps.LOOK)
    await turn(engine, worker)
    assert not (await newest(engine, other)).stop_requested, "it waits for something else than room"
    await begin(engine, high)


async def test_waiting_for_others_is_no_part_of_the_deadline(engine: AsyncEngine, worker: Reconciler) -> None:
    await put(engine, jobs=1)
    job = await add_job(engine, deadline=timedelta(minutes=1))
    await turn(engine, worker)
    attempt = await begin(engine, job)
    await put(engine, jobs=0)
    await fail(engine, attempt, Why(Reason.STOPPED, "Its host went down."))
    await pass_time(engine, timedelta(seconds=3))
    await turn(engine, worker)
    await pass_time(engine, timedelta(hours=1))
    await turn(engine, worker)
    assert await reason(engine, job) is Reason.WAITING_FOR_QUOTA
    await put(engine, jobs=1)
    await turn(engine, worker)
    await begin(engine, job)
    await turn(engine, worker)
    seen = await look(engine, job)
    assert seen.phase is Phase.RUNNING
    assert seen.paused_since is None
    assert seen.paused_seconds == pytest.approx(3600, abs=60)
    async with engine.begin() as connection:
        moved = tables.jobs.c.started_at - timedelta(minutes=2)
        await connection.execute(sa.update(tables.jobs).values(started_at=moved, due_at=sa.func.now()))
    await turn(engine, worker)
    assert (await newest(engine, job)).stop_requested, "what it works counts"


async def test_a_spent_budget_lets_nobody_in_until_the_next_period(engine: AsyncEngine, worker: Reconciler) -> None:
    await put(engine, core_hours=1.0, period=Period.MONTH)
    first = await add_job(engine, resources=Resources(cpu_millis=2000))
    await turn(engine, worker)
    attempt = await begin(engine, first)
    await started_before(engine, attempt, timedelta(minutes=31))
    third = await add_job(engine)
    await turn(engine, worker)
    assert await reason(engine, third) is Reason.WAITING_FOR_BUDGET
    assert "1.03 of its 1 core-hours of this month" in (await look(engine, third)).why.message
    assert (await newest(engine, first)).stop_requested is False, "what runs goes on"
    await put(engine, core_hours=2.0)
    await turn(engine, worker)
    assert await is_queued(engine, third)


async def test_what_ends_is_charged_by_day_and_author_and_stays_when_its_job_is_deleted(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    job = await add_job(engine, resources=Resources(cpu_millis=1500, memory_bytes=1 << 29, gpus=2))
    await turn(engine, worker)
    attempt = await begin(engine, job)
    await started_before(engine, attempt, timedelta(hours=30))
    running = await took(engine)
    await fail(engine, attempt, Why(Reason.USER_ERROR, "No."))
    ended = await took(engine)
    for total, count in ((running, 0), (ended, 1)):
        assert total.core_seconds == pytest.approx(1.5 * 30 * 3600, rel=1e-3)
        assert total.gib_seconds == pytest.approx(0.5 * 30 * 3600, rel=1e-3)
        assert total.gpu_seconds == pytest.approx(2 * 30 * 3600, rel=1e-3)
        assert total.attempts == count
    async with engine.begin() as connection:
        days = await LedgerStore(connection).report("blue", first=FIRST, last=LAST, by="day", limit=10)
        authors = await LedgerStore(connection).report("blue", first=FIRST, last=LAST, by="subject", limit=10)
    assert len(days) in (2, 3)
    assert sum(each.core_seconds for each in days) == pytest.approx(ended.core_seconds)
    assert all(each.core_seconds <= 1.5 * 86400 + 1 for each in days)
    assert [each.name for each in authors] == ["ada"]
    await turn(engine, worker)
    async with engine.begin() as connection:
        await JobStore(connection).request_delete("blue", job.id)
    await turn(engine, worker)
    assert await took(engine) == ended


async def test_what_a_release_did_that_knows_no_quotas_is_counted_again(
    engine: AsyncEngine, worker: Reconciler
) -> None:
    job = await add_job(engine)
    await turn(engine, worker)
    async with engine.begin() as connection:  # as such a release ends an attempt: nothing is given back
        await connection.execute(sa.update(tables.attempts).values(phase="failed", finished_at=sa.func.now()))
    assert (await standing(engine)).jobs == 1
    await admission.look_after(engine)
    assert await standing(engine) == dataclasses.replace(await standing(engine), jobs=0, used=Amount())
    async with engine.begin() as connection:  # and begins one: nothing is taken, and nothing given back
        row = {"project": "blue", "id": uuid7(), "job_id": job.id, "number": 2}
        await connection.execute(sa.insert(tables.attempts).values(row))
    attempt = await newest(engine, job)
    async with engine.begin() as connection:
        await AttemptStore(connection).withdraw(attempt)
    assert (await standing(engine)).jobs == 0
