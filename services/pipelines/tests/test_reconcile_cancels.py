"""A cancel at any moment leaves no job behind."""

import asyncio
from datetime import timedelta

import httpx2
import pytest
from worlds import UPLOAD, World, main_job

TWO = {"upload": UPLOAD}


class Killed(BaseException):
    """As a kill -9: nothing after this line happens."""


async def test_a_cancel_ends_the_job_and_all_that_waits(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    [job] = world.trainer.jobs.values()
    await world.cancel(run_id)
    assert (await world.run(run_id)).reason == "cancelling"
    await world.cancel(run_id)  # asking again is asking
    await world.once()
    run = await world.run(run_id)
    assert (run.phase, run.message) == ("cancelled", "The run was cancelled.")
    assert job["status"]["phase"] == "cancelled"
    assert await world.phases(run_id) == {
        "ingest": "succeeded",
        "train": "cancelled",
        "gate": "cancelled",
        "promote": "cancelled",
        "deploy": "cancelled",
    }


async def test_a_cancel_between_the_post_and_our_record_leaves_no_job(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())

    async def cancel(request: httpx2.Request) -> None:
        if request.url.path == "/v1/jobs":
            world.trainer.after = None
            await world.cancel(run_id)

    world.trainer.after = cancel
    assert (await world.settle(run_id)).phase == "cancelled"
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled"]


async def test_a_cancel_before_the_post_leaves_no_job_not_even_a_late_one(world: World) -> None:
    """The replica that was about to start the job goes on only when the run has ended: it gets the job that ended."""
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    await world.once()
    stalled, go_on = asyncio.Event(), asyncio.Event()

    async def stall(request: httpx2.Request) -> None:
        if request.url.path == "/v1/jobs" and not stalled.is_set():
            stalled.set()
            await go_on.wait()

    world.trainer.before = stall
    [lease] = await world.lease()
    late = asyncio.create_task((await world.worker(ttl=timedelta(minutes=1))).reconcile(lease))
    await stalled.wait()
    await world.cancel(run_id)
    await world.expire()
    await world.once()
    assert (await world.run(run_id)).phase == "cancelled"
    go_on.set()
    await late
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled"]
    assert (await world.phases(run_id))["train"] == "cancelled"


async def test_a_cancel_of_a_job_that_was_refused_ends_too(world: World) -> None:
    run_id = await world.start(main_job(train={"with": {"estimator": {"class": "nonsense"}}}))
    await world.once()

    async def die(request: httpx2.Request) -> None:
        if request.url.path == "/v1/jobs":
            world.trainer.before = None
            raise Killed

    world.trainer.before = die
    with pytest.raises(Killed):
        await world.once()
    await world.cancel(run_id)
    await world.expire()
    await world.once()
    assert (await world.run(run_id)).phase == "cancelled"


async def test_a_cancel_waits_for_a_trainer_that_is_away(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    world.trainer.away = True
    await world.cancel(run_id)
    await world.once()
    assert (await world.run(run_id)).phase == "running"
    world.trainer.away = False
    await world.expire()
    await world.once()
    assert (await world.run(run_id)).phase == "cancelled"
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled"]


async def test_a_cancel_waits_to_find_out_whether_there_is_a_job(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    await world.once()
    world.trainer.away = True
    await world.once()
    await world.cancel(run_id)
    await world.once()
    assert (await world.run(run_id)).phase == "running"
    world.trainer.away = False
    await world.expire()
    await world.once()
    assert (await world.run(run_id)).phase == "cancelled"
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled"]


async def test_a_job_that_ended_first_needs_no_end(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    world.trainer.finish(next(iter(world.trainer.jobs)))
    await world.cancel(run_id)
    await world.once()
    assert (await world.run(run_id)).phase == "cancelled"
