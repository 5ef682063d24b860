"""Statements about results and old runs, and the migrations both ways."""

import asyncio
from datetime import timedelta

import sqlalchemy as sa
from alembic import command
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import INGEST, UPLOAD, World, pipeline_of

from kit import migrations
from kit.ids import uuid7
from pipelines import actions
from pipelines.domain.steps import Step
from pipelines.store import results
from pipelines.store.results import Done, Mine, Others, ResultStore
from pipelines.store.steps import StepStore
from pipelines.store.tables import results as results_table
from pipelines.store.tables import runs, steps

DAY = timedelta(days=1)
GATE = {"kind": "gate", "with": {"require": ["true"]}}


async def two_steps(world: World) -> list[Step]:
    return [(await world.steps(await world.start(pipeline_of(a=GATE))))["a"] for _ in range(2)]


async def test_a_key_is_given_to_one_and_comes_free_when_it_fails(world: World, engine: AsyncEngine) -> None:
    one, two = await two_steps(world)
    async with engine.begin() as connection:
        store = ResultStore(connection)
        assert await store.claim(one, "k") == Mine()
        assert await store.claim(one, "k") == Mine()
        assert await store.claim(two, "k") == Others()
        await store.free(two, "k")  # not his
        assert await store.claim(two, "k") == Others()
        await store.free(one, "k")
        assert await store.claim(two, "k") == Mine()


async def test_what_came_of_a_key_is_kept_for_everybody(world: World, engine: AsyncEngine) -> None:
    one, two = await two_steps(world)
    async with engine.begin() as connection:
        store = ResultStore(connection)
        await store.claim(one, "k")
        await store.keep(two, "k", {"wrong": 1})  # not his
        await store.keep(one, "k", {"x": 1})
        assert await store.claim(two, "k") == Done(one.id, {"x": 1})
        await store.free(one, "k")  # done is done
        assert await store.claim(two, "k") == Done(one.id, {"x": 1})
        assert await store.take_over(two, "k", one.id)
        assert not await store.take_over(two, "k", one.id)
        assert await store.claim(one, "k") == Others()


async def test_a_key_is_asked_for_by_many_at_one_moment(world: World, engine: AsyncEngine) -> None:
    many = [(await world.steps(await world.start(pipeline_of(a=GATE))))["a"] for _ in range(4)]

    async def claim(step: Step) -> object:
        async with engine.begin() as connection:
            return await ResultStore(connection).claim(step, "k")

    claims = await asyncio.gather(*(claim(step) for step in many))
    assert sorted(type(found).__name__ for found in claims) == ["Mine", "Others", "Others", "Others"]


async def test_nothing_awaited_wakes_nobody(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        assert await StepStore(connection).wake([]) == 0


async def test_keys_are_of_one_project(world: World, engine: AsyncEngine) -> None:
    one, two = await two_steps(world)
    async with engine.begin() as connection:
        store = ResultStore(connection)
        assert await store.claim(one, "k") == Mine()
        assert await store.claim(Step(**{**vars(two), "project": "red"}), "k") == Mine()


async def test_results_that_nobody_uses_are_forgotten(world: World, engine: AsyncEngine) -> None:
    one, two = await two_steps(world)
    async with engine.begin() as connection:
        store = ResultStore(connection)
        for key in ("old", "used", "open"):
            await store.claim(one, key)
        for key in ("old", "used"):
            await store.keep(one, key, {"x": 1})
        await connection.execute(sa.update(results_table).values(used_at=results_table.c.used_at - 2 * DAY))
        await store.used(two, "used")
    assert await results.prune(engine, DAY) == 1
    async with engine.begin() as connection:
        left = set((await connection.execute(sa.select(results_table.c.key))).scalars())
    assert left == {"used", "open"}


async def test_old_runs_are_forgotten_with_their_steps(world: World, engine: AsyncEngine) -> None:
    old, new = [await world.start(pipeline_of({"upload": UPLOAD}, a=INGEST)) for _ in range(2)]
    await world.settle(old)
    await world.settle(new)
    under_way = await world.start(pipeline_of({"upload": UPLOAD}, a=INGEST))
    async with engine.begin() as connection:
        aged = sa.update(runs).where(runs.c.id == old)
        await connection.execute(aged.values(finished_at=runs.c.finished_at - 2 * DAY))
    assert await actions.retire_runs(engine, DAY) == 1
    assert await actions.retire_runs(engine, DAY) == 0
    async with engine.begin() as connection:
        left = set((await connection.execute(sa.select(steps.c.run_id))).scalars())
    assert left == {new, under_way}


async def test_however_many_runs_are_old_one_call_forgets_them(engine: AsyncEngine) -> None:
    values = {"project": "blue", "pipeline": "p", "revision": 1, "parameters": {}, "subject": "ada", "role": "editor"}
    over = {"phase": "succeeded", "finished_at": sa.func.now() - 2 * DAY}
    async with engine.begin() as connection:
        await connection.execute(sa.insert(runs), [{"id": uuid7(), **values} for _ in range(450)])
        await connection.execute(sa.update(runs).values(over))
    assert await actions.retire_runs(engine, DAY) == 450


async def test_however_many_results_are_old_one_call_forgets_them(engine: AsyncEngine) -> None:
    many = 2 * results.BATCH + 1
    values = [{"project": "blue", "key": f"k{n}", "step_id": uuid7(), "outputs": {"x": n}} for n in range(many)]
    async with engine.begin() as connection:
        await connection.execute(sa.insert(results_table), values)
        await connection.execute(sa.update(results_table).values(used_at=results_table.c.used_at - 2 * DAY))
        await connection.execute(sa.insert(results_table), [values[0] | {"project": "red"}])
    assert await results.prune(engine, DAY) == many
    assert await results.prune(engine, DAY) == 0


def test_the_migrations_make_what_the_tables_say(empty_database_url: str) -> None:
    config = migrations.config("pipelines", empty_database_url)
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
