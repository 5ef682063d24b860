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
from pipelines.store.tables import steps

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
