"""Leases, fences, crashes and cancels: whatever happens in the middle, everything is made once."""

import asyncio
import uuid
from datetime import timedelta

import httpx2
import pytest
import sqlalchemy as sa
from worlds import INGEST, OTHER_UPLOAD, TRAIN, UPLOAD, World, main_job, pipeline_of

from kit.db import NOW
from kit.testing import eventually
from pipelines import actions
from pipelines.domain.runs import FINAL
from pipelines.store.runs import RunStore
from pipelines.store.steps import StepStore
from pipelines.store.tables import runs, steps

TWO = {"upload": UPLOAD}


class Killed(BaseException):
    """As a kill -9: nothing after this line happens."""


async def all_over(world: World, ids: list[uuid.UUID]) -> bool:
    return all([(await world.run(run_id)).phase in FINAL for run_id in ids])


async def test_two_loops_share_the_work_and_do_everything_once(world: World) -> None:
    ids = []
    for n in range(10):
        one = {**INGEST, "with": {**INGEST["with"], "dataset": f"d{n}", "upload": f"sha256:{n:064}"}}
        ids.append(await world.start(pipeline_of(ingest=one, train=TRAIN)))
    async with world.at_work(replicas=2):
        await eventually(lambda: all_over(world, ids))
    assert {(await world.run(run_id)).phase for run_id in ids} == {"succeeded"}
    assert [len(made) for made in world.ingest.versions.values()] == [1] * 10
    assert world.ingest.asked("POST") == world.trainer.asked("POST") == 10


async def test_two_claims_at_once_share_the_steps(world: World) -> None:
    for n in range(4):
        await world.start(pipeline_of(TWO, ingest={**INGEST, "with": {**INGEST["with"], "dataset": f"d{n}"}}))
    claims = await asyncio.gather(world.lease(2), world.lease(2))
    ids = [lease.id for claim in claims for lease in claim]
    assert len(ids) == len(set(ids)) == 4


async def test_a_stale_lease_records_nothing(world: World) -> None:
    run_id = await world.start(pipeline_of(TWO, ingest=INGEST))
    worker = await world.worker()
    [stale] = await world.lease()
    await world.expire()
    [fresh] = await world.lease()
    await worker.reconcile(stale)
    step = (await world.steps(run_id))["ingest"]
    assert (step.phase, step.attempt, world.ingest.requests) == ("waiting", 0, [])
    await worker.reconcile(fresh)
    assert (await world.run(run_id)).phase == "succeeded"


async def test_a_replica_that_stalls_before_its_record_records_nothing(world: World) -> None:
    """It has begun and asked; when it goes on, another replica has finished, and a third run was begun since."""
    run_id = await world.start(pipeline_of(TWO, ingest=INGEST))
    stalled, go_on = asyncio.Event(), asyncio.Event()

    async def stall(request: httpx2.Request) -> None:
        if request.method == "POST" and not stalled.is_set():
            stalled.set()
            await go_on.wait()

    world.ingest.after = stall
    first, second = await world.worker(ttl=timedelta(minutes=1)), await world.worker()
    [lease] = await world.lease()
    late = asyncio.create_task(first.reconcile(lease))
    await stalled.wait()
    await world.expire()
    [taken] = await world.lease()
    await second.reconcile(taken)
    ended = await world.run(run_id)
    assert ended.phase == "succeeded"
    go_on.set()
    await late
    assert await world.run(run_id) == ended
    assert len(world.ingest.versions["flights"]) == 1


async def test_a_lease_is_kept_while_a_neighbour_takes_its_time(world: World) -> None:
    run_id = await world.start(pipeline_of(TWO, ingest=INGEST))
    go_on = asyncio.Event()

    async def stall(request: httpx2.Request) -> None:
        if request.method == "POST":
            await go_on.wait()

    world.ingest.after = stall
    ttl = timedelta(milliseconds=300)
    [lease] = await world.lease(ttl=ttl)
    work = asyncio.create_task((await world.worker(ttl=ttl)).reconcile(lease))

    async def it_is_extended() -> bool:
        async with world.engine.begin() as connection:
            query = sa.select(steps.c.lease_until > NOW, steps.c.attempt_at < NOW - 3 * ttl)
            alive, long_ago = (await connection.execute(query)).one()
        return bool(alive and long_ago)

    await eventually(it_is_extended)
    assert await world.lease() == []
    go_on.set()
    await work
    assert (await world.run(run_id)).phase == "succeeded"


async def test_a_replica_that_lost_its_lease_stops(world: World) -> None:
    await world.start(pipeline_of(TWO, ingest=INGEST))
    never = asyncio.Event()

    async def stall(request: httpx2.Request) -> None:
        await never.wait()

    world.ingest.after = stall
    ttl = timedelta(milliseconds=200)
    [lease] = await world.lease(ttl=ttl)
    work = asyncio.create_task((await world.worker(ttl=ttl)).reconcile(lease))
    await eventually(lambda: bool(world.ingest.requests))
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(steps).values(fence=steps.c.fence + 1))
    await asyncio.wait_for(work, 5)


@pytest.mark.parametrize("path", ["/v1/datasets/flights/versions", "/v1/jobs"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_kill_around_a_post_makes_one_of_each(world: World, path: str, moment: str) -> None:
    """Before: the neighbour never heard of it. After: it has done it, and nobody here knows."""
    killed = False

    async def kill(request: httpx2.Request) -> None:
        nonlocal killed
        if not killed and request.method == "POST" and request.url.path == path:
            killed = True
            raise Killed

    for neighbour in (world.ingest, world.trainer):
        setattr(neighbour, moment, kill)
    run_id = await world.start(main_job())
    with pytest.raises(Killed):
        await world.settle(run_id)
    assert killed
    await world.expire()
    assert (await world.settle(run_id)).phase == "succeeded"
    assert len(world.ingest.versions["flights"]) == len(world.trainer.jobs) == len(world.registry.versions) == 1
    assert {step.attempt for step in (await world.steps(run_id)).values()} == {1}


async def test_a_kill_at_any_request_changes_nothing_but_the_time(world: World) -> None:
    await world.settle(await world.start(main_job()))
    total = sum(len(it.requests) for it in (world.ingest, world.trainer, world.registry, world.serving))
    assert total == 10
    for nth in range(total):
        for moment in ("before", "after"):
            await _kill_at(world, nth, moment)


async def _kill_at(world: World, nth: int, moment: str) -> None:
    seen = 0

    async def kill(request: httpx2.Request) -> None:
        nonlocal seen
        seen += 1
        if seen == nth + 1:
            raise Killed

    neighbours = (world.ingest, world.trainer, world.registry, world.serving)
    for neighbour in neighbours:
        setattr(neighbour, moment, kill)
    name = f"n{nth}-{moment}"
    definition = main_job(
        ingest={"with": {"dataset": name}},
        train={"with": {"register": {"model": name}}},
        promote={"with": {"model": name}},
        deploy={"with": {"deployment": name, "model": f"{name}@champion"}},
    )
    run_id = await world.start(definition)
    jobs = len(world.trainer.jobs)
    try:
        await world.settle(run_id)
    except Killed:
        await world.expire()
    for neighbour in neighbours:
        setattr(neighbour, moment, None)
    assert (await world.settle(run_id)).phase == "succeeded", (nth, moment)
    made = (len(world.ingest.versions[name]), len(world.registry.versions[name]), len(world.trainer.jobs) - jobs)
    assert made == (1, 1, 1), (nth, moment)
    assert world.serving.deployments[name]["generation"] == 1, (nth, moment)


async def test_two_runs_at_once_elect_one_executor(world: World) -> None:
    world.ingest.at_once = world.trainer.at_once = False
    definition = pipeline_of(TWO, ingest=INGEST, train=TRAIN)
    one, two = await world.start(definition), await world.start(definition)
    await world.once()
    found = [(await world.steps(run_id))["ingest"] for run_id in (one, two)]
    assert sorted(step.reason for step in found) == ["", "waiting-for-equal-step"]
    assert world.ingest.asked("POST") == 1
    world.ingest.finish("flights", 1)
    for _ in range(4):
        await world.once()
        await world.expire()
    [job_id] = world.trainer.jobs
    world.trainer.finish(job_id)
    await world.settle(one)
    await world.settle(two)
    phases = [await world.phases(run_id) for run_id in (one, two)]
    assert sorted(phase["ingest"] for phase in phases) == ["reused", "succeeded"]
    assert sorted(phase["train"] for phase in phases) == ["reused", "succeeded"]
    assert len(world.trainer.jobs) == 1


async def test_the_end_of_the_one_wakes_the_other_at_once(world: World) -> None:
    world.ingest.at_once = False
    one, two = [await world.start(pipeline_of(TWO, ingest=INGEST)) for _ in range(2)]
    await world.once()
    world.ingest.finish("flights", 1)
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(steps).where(steps.c.awaits.like("ingest:%")).values(due_at=NOW))
    assert await world.once() == 1
    assert await world.once() == 1  # due without any time that passes
    assert await all_over(world, [one, two])


async def test_when_the_elected_one_fails_the_other_does_it(world: World) -> None:
    world.ingest.at_once = False
    one, two = [await world.start(pipeline_of(TWO, ingest=INGEST)) for _ in range(2)]
    await world.once()
    world.ingest.finish("flights", 1, "failed", reason="bad-header", message="No header.")
    await world.expire()
    await world.once()
    assert sorted([(await world.run(it)).phase for it in (one, two)]) == ["failed", "running"]
    await world.expire()
    await world.once()
    assert len(world.ingest.versions["flights"]) == 2
    world.ingest.finish("flights", 2)
    await world.expire()
    await world.once()
    assert sorted([(await world.run(it)).phase for it in (one, two)]) == ["failed", "succeeded"]


async def test_when_the_elected_one_is_cancelled_the_other_does_it(world: World) -> None:
    world.ingest.at_once = False
    ids = [await world.start(pipeline_of(TWO, ingest=INGEST)) for _ in range(2)]
    await world.once()
    [elected] = [it for it in ids if (await world.steps(it))["ingest"].elected]
    await world.cancel(elected)
    await world.once()
    world.ingest.finish("flights", 1)
    await world.expire()
    await world.once()
    await world.expire()
    await world.once()
    assert {it: (await world.run(it)).phase.value for it in ids} == {
        it: "cancelled" if it == elected else "succeeded" for it in ids
    }


async def test_a_key_whose_owner_is_gone_is_taken_over(world: World) -> None:
    world.ingest.at_once = False
    one, two = [await world.start(pipeline_of(TWO, ingest=INGEST)) for _ in range(2)]
    await world.once()
    elected = one if (await world.steps(one))["ingest"].elected else two
    other = two if elected == one else one
    async with world.engine.begin() as connection:
        await connection.execute(sa.delete(steps).where(steps.c.run_id == elected))
        await connection.execute(sa.delete(runs).where(runs.c.id == elected))
    world.ingest.at_once = True
    world.ingest.finish("flights", 1)
    assert (await world.settle(other)).phase == "succeeded"


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


async def test_an_event_during_a_look_is_not_lost(world: World) -> None:
    """Seen as not ready, become ready, told so: all before the look is recorded."""
    world.ingest.at_once = False
    run_id = await world.start(pipeline_of(TWO, ingest=INGEST))
    await world.once()
    await world.expire()

    async def finish(request: httpx2.Request) -> None:
        world.ingest.after = None
        world.ingest.finish("flights", 1)
        async with world.engine.begin() as connection:
            await StepStore(connection).wake([("blue", "ingest:flights@1")])

    # The answer was made before it became ready.
    world.ingest.after = finish
    assert await world.once() == 1
    assert (await world.run(run_id)).phase == "running"
    assert await world.once() == 1
    assert (await world.run(run_id)).phase == "succeeded"


async def test_a_deleted_step_is_nobodys_work(world: World) -> None:
    await world.start(pipeline_of(TWO, ingest=INGEST))
    [lease] = await world.lease()
    async with world.engine.begin() as connection:
        await connection.execute(sa.delete(steps))
    await (await world.worker()).reconcile(lease)


async def test_what_is_over_rests(world: World) -> None:
    run_id = await world.start(pipeline_of(TWO, ingest=INGEST))
    await world.settle(run_id)
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(steps).values(due_at=NOW))
    assert await world.once() == 1
    assert await world.once() == 0
    assert world.ingest.asked("POST") == 1


async def test_runs_that_stand_still_are_swept_along(world: World) -> None:
    run_id = await world.start(main_job())
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(steps).values(due_at=None))
    assert await world.once() == 0
    assert await actions.sweep(world.engine) == 1
    assert await actions.sweep(world.engine) == 0
    assert (await world.settle(run_id)).phase == "succeeded"


async def test_a_run_that_ended_is_not_ended_again(world: World) -> None:
    run_id = await world.start(pipeline_of(TWO, ingest=INGEST))
    await world.settle(run_id)
    async with world.engine.begin() as connection:
        run = await RunStore(connection).get("blue", run_id, lock=True)
        assert not await actions.go_on(connection, run)


async def test_many_runs_over_three_replicas(world: World) -> None:
    ids = [await world.start(main_job(), {"upload": upload}) for upload in (UPLOAD, OTHER_UPLOAD) * 4]
    async with world.at_work(replicas=3):
        await eventually(lambda: all_over(world, ids), timedelta(seconds=30))
    assert {(await world.run(run_id)).phase for run_id in ids} == {"succeeded"}
    assert len(world.ingest.versions["flights"]) == len(world.trainer.jobs) == 2
