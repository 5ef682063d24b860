"""Which models stay in memory, which are given up for others, and how they come back."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from targets import digest, target
from worlds import LOGISTIC, rows, trained

from kit.callers import Role
from kit.testing import KeyFolder, eventually
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature
from serving.domain.desired import Desired
from serving.domain.limits import Limits
from serving.domain.revisions import File, Target
from serving.replica.lanes import Lane, Overloaded
from serving.replica.pace import Pace
from serving.replica.residency import NoRoom, Residency
from serving.replica.residents import AWAITING, FACTOR, Asleep, Resident, bytes_of
from serving.replica.table import Answering, Live, Table
from serving.settings import Settings

SIZE = 100


class Held:
    """A model that is in memory until it is closed."""

    def __init__(self, size: int) -> None:
        self.signature: AnySignature = trained().signature
        self.pace: Pace | None = None
        self.bytes = size
        self.is_lost = False
        self.is_closed = False

    def is_quick(self, rows: int) -> bool:
        return True

    def lane(self, limits: Limits) -> Lane:
        return Lane(lambda arrays: self.predict(arrays, 1), waiting=1)

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        assert not self.is_closed
        return Prediction(np.zeros(rows), None)

    async def close(self) -> None:
        self.is_closed = True


class World:
    """A table, and models of 300 bytes each; deployments are used in the order of `clock`."""

    def __init__(self, budget: int | None) -> None:
        self.table = Table()
        self.made: list[Held] = []
        self.size = FACTOR * SIZE
        self.residency = Residency(self.table, self, budget, self.awake)
        self.clock = 0.0
        self.woken: list[uuid.UUID] = []

    async def load(self, project: str, wanted: Target, memory: int | None = None) -> Resident:
        self.made.append(Held(self.size))
        return self.made[-1]

    async def put(self, desired: Desired) -> Live:
        with self.residency.claiming(desired):
            residents = await self.residency.bring(desired)
            self.clock += 1
            answering = tuple(map(Answering, desired.targets, residents))
            live = Live(desired, answering, began_at=self.clock)
            self.table.put(live)
        return live

    async def awake(self, deployment: uuid.UUID) -> Live:
        self.woken.append(deployment)
        live = self.table.of(deployment)
        assert live is not None
        return await self.put(live.desired)

    def in_memory(self) -> list[str]:
        return sorted(live.desired.name for live in self.table if not live.is_asleep)


def wanted(name: str, model: str = "", **of: Any) -> Desired:
    """A deployment of a model of its own, or of this one."""
    file = File("onnx", "model.onnx", digest(model or name), SIZE)
    return Desired("demo", name, _id(name), 1, (target(file=file),), **of)


@cache
def _id(name: str) -> uuid.UUID:
    return uuid.uuid4()


async def test_those_that_were_asked_longest_ago_are_given_up_and_come_back_when_they_are_asked() -> None:
    world = World(2 * FACTOR * SIZE)
    for name in "ab":
        await world.put(wanted(name))
    a = world.table.of(_id("a"))
    assert a is not None
    a.answering[0].tally.last_at = 10.0
    await world.put(wanted("c"))
    assert world.in_memory() == ["a", "c"]
    assert [it.is_closed for it in world.made] == [False, True, False]
    b = world.table.of(_id("b"))
    assert b is not None
    assert (b.is_asleep, b.is_lost) == (True, False)
    assert bytes_of(b.desired.targets[0]) == FACTOR * SIZE
    answer = await b.answering[0].predict({}, 3)
    assert (len(answer.values), world.woken) == (3, [_id("b")])
    assert world.in_memory() == ["a", "b"]
    assert world.residency.held == 2 * FACTOR * SIZE


async def test_what_is_pinned_stays_and_where_all_is_there_is_no_room() -> None:
    world = World(2 * FACTOR * SIZE)
    await world.put(wanted("a", is_pinned=True))
    await world.put(wanted("b"))
    await world.put(wanted("c", is_pinned=True))
    assert world.in_memory() == ["a", "c"]
    with pytest.raises(NoRoom):
        await world.put(wanted("d"))
    assert world.in_memory() == ["a", "c"]
    assert world.residency.held == 2 * FACTOR * SIZE
    with pytest.raises(NoRoom):
        await World(SIZE).put(wanted("a"))


async def test_a_model_that_is_larger_than_it_was_believed_to_be_makes_its_room_too() -> None:
    world = World(3 * FACTOR * SIZE)
    for name in "ab":
        await world.put(wanted(name))
    world.size *= 2
    await world.put(wanted("c"))
    assert world.in_memory() == ["b", "c"]


async def test_what_several_deployments_share_is_counted_once_and_given_up_with_the_last() -> None:
    world = World(2 * FACTOR * SIZE)
    for name in "ab":
        await world.put(wanted(name, "f"))
    assert (len(world.made), world.residency.held) == (1, FACTOR * SIZE)
    await world.put(wanted("c"))
    b = world.table.of(_id("b"))
    assert b is not None
    b.answering[0].tally.last_at = 10.0
    await world.put(wanted("d"))
    assert world.in_memory() == ["a", "b", "d"]
    await world.put(wanted("e", is_pinned=True))
    assert world.in_memory() == ["a", "b", "e"]
    await world.put(wanted("c"))
    assert world.in_memory() == ["c", "e"]


async def test_a_revision_that_takes_over_is_not_kept_out_by_the_one_before() -> None:
    world = World(FACTOR * SIZE)
    before = await world.put(wanted("a", "1"))
    await world.put(replace(wanted("a", "2"), revision=2))
    assert not world.made[0].is_closed
    await world.residency.keep_only_used()
    assert [it.is_closed for it in world.made] == [True, False]
    assert not before.is_asleep


async def test_no_more_wait_for_a_model_that_comes_back_than_may() -> None:
    go_on = asyncio.Event()

    async def ask(arrays: Arrays, rows: int) -> Prediction:
        await go_on.wait()
        return Prediction(np.zeros(rows), None)

    asleep = Asleep(trained().signature, ask)
    assert not asleep.is_quick(1)
    tasks = [asyncio.create_task(asleep.predict({}, 1)) for _ in range(AWAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await asleep.predict({}, 1)
    go_on.set()
    await asyncio.gather(*tasks)
    await asleep.close()


async def test_more_models_than_memory_are_served_in_turns(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> None:
    for seed, name in enumerate("abc"):
        registry.register(name, trained(LOGISTIC, seed=seed))
    size = FACTOR * len(trained(LOGISTIC).files["onnx"])
    async with Serving.started(settings(resident_bytes=2 * size + size // 2), key_folder) as it:
        for name in "abc":
            await it.deploy(name, f"{name}@1")
        for _ in range(2):
            for name in "abc":
                assert await it.version(name, rows(1)[0]) == 1
        assert (await it.http.get("/readyz")).status_code == 200
        there = await it.http.get("/v1/deployments/a")
        assert there.json()["status"]["phase"] == "ready"
        body, headers = {"model": "a@1", "pinned": True}, {"if-match": there.headers["etag"]}
        assert (await it.http.put("/v1/deployments/a", json=body, headers=headers)).status_code == 200
        await it.settled("a")
        assert await it.version("a", rows(1)[0]) == 1


async def test_models_are_given_up_and_brought_back_by_word_too(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained(LOGISTIC))
    await serving.deploy("late", "late@1")

    async def said(what: str, status: int = 200, name: str = "late", **of: Any) -> list[str]:
        answer = await serving.http.post(f"/v2/repository/models/{name}/{what}", headers=serving.headers(**of))
        assert answer.status_code == status, answer.text
        found = (await serving.http.post("/v2/repository/index")).json()
        return [it["state"] for it in found]

    assert await said("unload") == ["UNAVAILABLE"]
    assert await said("unload") == ["UNAVAILABLE"]
    assert await said("load") == ["READY"]
    await said("unload", 403, role=Role.VIEWER)
    await said("load", 404, "nothing")
    assert await said("unload") == ["UNAVAILABLE"]
    assert await serving.version("late", rows(1)[0]) == 1
    etag = (await serving.http.get("/v1/deployments/late")).headers["etag"]
    body = {"model": "late@1", "pinned": True}
    assert (await serving.http.put("/v1/deployments/late", json=body, headers={"if-match": etag})).is_success

    async def is_pinned() -> bool:
        return (await serving.http.post("/v2/repository/models/late/unload")).status_code == 409

    await eventually(is_pinned)
