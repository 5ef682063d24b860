"""Quotas, priorities and usage: who is let in, who waits and why, who makes way, and what it all adds up to."""

from typing import Any

import pytest
from jobs_at_work import begin, fail, look, turn
from makers import add_job
from sqlalchemy.ext.asyncio import AsyncEngine

from trainer import actions, admission
from trainer.domain.jobs import Job, Reason, Why
from trainer.domain.sharing import Quota, Standing
from trainer.reconcile import Reconciler
from trainer.store.shares import ShareStore

pytestmark = pytest.mark.usefixtures("world")
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
