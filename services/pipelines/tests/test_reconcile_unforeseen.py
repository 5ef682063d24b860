"""What nobody foresaw, what is handed in to bring it about, and what passes by itself: a run ends all the same."""

from typing import Any

import httpx2
import pytest
from neighbours import Answer, problem
from sqlalchemy.exc import TimeoutError as PoolTimeout
from worlds import TRAIN, World, main_job, pipeline_of

from pipelines.domain.kinds import With
from pipelines.domain.steps import TRIES
from pipelines.kinds.doing import Doing, Done, Prepared, Working
from pipelines.kinds.gate import Gate

GATE = {"kind": "gate", "with": {"require": ["true"]}}


class Broken(Gate):
    """A kind with a mistake in it, at one of its places."""

    def __init__(self, place: str) -> None:
        self._place = place

    async def prepare(self, doing: Doing, given: With) -> Prepared:
        if self._place == "prepare":
            return Prepared({"require": [object()]}, {})
        return await super().prepare(doing, given)

    async def work(self, doing: Doing) -> Done | Working:
        if self._place == "work":
            raise TypeError("nobody thought of that")
        return Done({"passed": "\0"})


@pytest.mark.parametrize("place", ["prepare", "work", "outputs"])
async def test_what_nobody_foresaw_fails_the_step_in_the_end(world: World, place: str) -> None:
    run_id = await world.start(pipeline_of(gate=GATE))
    worker = await world.worker(kinds={"gate": Broken(place)})
    for _ in range(TRIES):
        assert (await world.run(run_id)).phase == "running"
        await world.expire()
        await world.once(worker)
    assert (await world.run(run_id)).message.startswith("Step gate failed: Something unforeseen went wrong (")
    assert (await world.steps(run_id))["gate"].reason == "internal"
    await world.resume(run_id)
    assert (await world.settle(run_id)).phase == "succeeded"


async def test_without_the_database_nothing_is_held_against_a_step(world: World) -> None:
    class Lost(Gate):
        async def work(self, doing: Doing) -> Done | Working:
            raise PoolTimeout

    run_id = await world.start(pipeline_of(gate=GATE))
    with pytest.raises(PoolTimeout):
        await world.once(await world.worker(kinds={"gate": Lost()}))
    assert (await world.steps(run_id))["gate"].failures == 0


def train(**changes: Any) -> dict[str, Any]:
    return {**TRAIN, "needs": [], "with": TRAIN["with"] | changes}


@pytest.mark.parametrize(
    "dataset",
    ["flights@1\n", "flights\n", "flights@1/../2", "flights@..", "flights@1?x=1", "../x@1", "flights@"],
)
async def test_a_reference_that_is_none_is_asked_of_nobody(world: World, dataset: str) -> None:
    definition = pipeline_of({"dataset": "flights"}, train=train(dataset="${{ parameters.dataset }}"))
    run_id = await world.start(definition, {"dataset": dataset})
    assert "with.dataset: Value error, it is written as name" in (await world.settle(run_id)).message
    assert (await world.steps(run_id))["train"].reason == "invalid"
    assert world.ingest.requests == []


@pytest.mark.parametrize("seed", [-1, 2**63])
async def test_a_seed_out_of_all_range_is_asked_of_nobody(world: World, seed: int) -> None:
    definition = pipeline_of(train=train(dataset="flights@1", seed=seed))
    assert "with.seed: Input should be" in (await world.settle(await world.start(definition))).message
    assert world.ingest.requests == []


async def test_a_neighbour_that_does_not_know_our_key_yet_is_asked_again(world: World) -> None:
    async def unknown(request: httpx2.Request) -> Answer | None:
        world.trainer.before = None
        return problem(401, "unauthenticated", "The key is not known.")

    world.trainer.before = unknown
    run_id = await world.start(main_job())
    assert (await world.settle(run_id)).phase == "succeeded"
    assert (await world.steps(run_id))["train"].attempt == 1
    assert len(world.trainer.jobs) == 1


async def test_a_job_is_cancelled_also_when_its_owner_does_not_know_us_at_first(world: World) -> None:
    """It was started by somebody who could not say so any more."""

    async def lose(request: httpx2.Request) -> None:
        world.trainer.after = None
        world.trainer.before = unknown
        raise httpx2.ReadTimeout("lost", request=request)

    async def unknown(request: httpx2.Request) -> Answer | None:
        return problem(401, "unauthenticated", "The key is not known.")

    world.trainer.at_once, world.trainer.after = False, lose
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    await world.cancel(run_id)
    await world.once()
    assert (await world.run(run_id)).phase == "running"
    world.trainer.before = None
    assert (await world.settle(run_id)).phase == "cancelled"
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled"]
