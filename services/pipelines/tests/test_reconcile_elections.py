"""Equal steps of several runs at once: one of them does it."""

import uuid

import sqlalchemy as sa
from worlds import INGEST, TRAIN, UPLOAD, World, pipeline_of

from kit.db import NOW
from pipelines.domain.runs import FINAL
from pipelines.store.tables import runs, steps

TWO = {"upload": UPLOAD}


async def all_over(world: World, ids: list[uuid.UUID]) -> bool:
    return all([(await world.run(run_id)).phase in FINAL for run_id in ids])


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
