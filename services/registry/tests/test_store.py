"""Models, versions, aliases and the ledger in the database."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import migrations
from kit.callers import Caller, Role
from registry.domain.aliases import AliasNotFound, Target
from registry.domain.manifests import Manifest, version_digest
from registry.domain.models import Model, ModelExists, ModelNotFound
from registry.domain.versions import Reference, Version, VersionNotFound
from registry.store.aliases import AliasStore
from registry.store.models import ModelStore
from registry.store.tables import alias_moves
from registry.store.versions import VersionStore
from registry.testing import manifest_of

ADA = Caller("blue", Role.EDITOR, "ada", "gateway")


async def new_model(engine: AsyncEngine, name: str = "flights", project: str = "blue") -> Model:
    async with engine.begin() as connection:
        return await ModelStore(connection).add(project, name, "Which are late?")


async def add_version(connection: AsyncConnection, model: Model, seed: int = 0, **changes: Any) -> Version:
    manifest = Manifest.model_validate(manifest_of(parameters={"seed": seed}, **changes))
    return await VersionStore(connection).add(model, version_digest(manifest), manifest)


async def new_version(engine: AsyncEngine, model: Model, seed: int = 0) -> Version:
    async with engine.begin() as connection:
        locked = await ModelStore(connection).get(model.project, model.name, lock=True)
        return await add_version(connection, locked, seed)


async def get(engine: AsyncEngine, reference: Reference, name: str = "flights", project: str = "blue") -> Version:
    async with engine.begin() as connection:
        return await VersionStore(connection).get(project, name, reference)


async def test_a_model_reads_back(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    async with engine.begin() as connection:
        assert await ModelStore(connection).get("blue", "flights") == model


async def test_a_name_is_taken_once_in_a_project(engine: AsyncEngine) -> None:
    await new_model(engine)
    with pytest.raises(ModelExists):
        await new_model(engine)
    await new_model(engine, project="red")


async def test_another_projects_model_is_not_found(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    await new_version(engine, model)
    async with engine.begin() as connection:
        with pytest.raises(ModelNotFound):
            await ModelStore(connection).get("red", "flights")
        assert await VersionStore(connection).page("red", "flights", before=None, limit=9) == []
    with pytest.raises(VersionNotFound):
        await get(engine, Reference(number=1), project="red")


async def test_models_are_listed_by_name(engine: AsyncEngine) -> None:
    for name in ("c", "a", "b"):
        await new_model(engine, name)
    await new_model(engine, "d", project="red")
    async with engine.begin() as connection:
        store = ModelStore(connection)
        assert [model.name for model in await store.page("blue", after=None, limit=9)] == ["a", "b", "c"]
        assert [model.name for model in await store.page("blue", after="a", limit=1)] == ["b"]


async def test_a_model_is_made_once_by_all_who_need_it(engine: AsyncEngine) -> None:
    async def ensure() -> tuple[Model, bool]:
        async with engine.begin() as connection:
            return await ModelStore(connection).ensure("blue", "flights")

    found = await asyncio.gather(*(ensure() for _ in range(8)))
    assert len({model.id for model, _ in found}) == 1
    assert [made for _, made in found].count(True) == 1


async def test_numbers_count_up_and_are_never_given_again(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    assert [(await new_version(engine, model, seed)).number for seed in range(3)] == [1, 2, 3]
    async with engine.begin() as connection:
        store = VersionStore(connection)
        for version in await store.page("blue", "flights", before=None, limit=9):
            await store.delete(version)
        await ModelStore(connection).delete(model)
    assert (await new_version(engine, await new_model(engine))).number == 4
    assert (await new_version(engine, await new_model(engine, project="red"))).number == 1


async def test_a_version_is_found_by_number_digest_alias_and_as_the_newest(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    first, second = await new_version(engine, model, 1), await new_version(engine, model, 2)
    async with engine.begin() as connection:
        await AliasStore(connection).add(model, "champion", first)
    found = [
        (await get(engine, reference)).number
        for reference in (
            Reference(number=1),
            Reference(digest=second.digest),
            Reference(alias="champion"),
            Reference(),
        )
    ]
    assert found == [1, 2, 1, 2]
    for reference in (Reference(number=3), Reference(digest="sha256:1"), Reference(alias="shadow")):
        with pytest.raises(VersionNotFound):
            await get(engine, reference)


async def test_an_alias_of_another_model_is_none_of_this_one(engine: AsyncEngine) -> None:
    one, other = await new_model(engine, "one"), await new_model(engine, "other")
    await new_version(engine, one)
    version = await new_version(engine, other)
    async with engine.begin() as connection:
        await AliasStore(connection).add(other, "champion", version)
    with pytest.raises(VersionNotFound):
        await get(engine, Reference(alias="champion"), name="one")


async def test_a_manifest_reads_back_to_the_last_digit(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    parameters = {"a": 1.0, "b": 1, "c": 1e300, "d": 1e-7, "e": -0.0, "f": 0.1 + 0.2, "g": "\x00 ä 😀"}
    async with engine.begin() as connection:
        manifest = Manifest.model_validate(manifest_of(parameters=parameters))
        version = await VersionStore(connection).add(model, version_digest(manifest), manifest)
    read = (await get(engine, Reference(number=1))).manifest
    assert read == version.manifest == manifest
    assert version_digest(read) == version.digest


async def test_the_database_itself_takes_a_digest_once(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    await new_version(engine, model)
    with pytest.raises(IntegrityError):
        await new_version(engine, model)


async def test_requests_for_one_model_take_turns(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    made = await asyncio.gather(*(new_version(engine, model, seed) for seed in range(8)))
    assert sorted(version.number for version in made) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_versions_are_listed_newest_first(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    for seed in range(3):
        await new_version(engine, model, seed)
    async with engine.begin() as connection:
        store = VersionStore(connection)
        assert [it.number for it in await store.page("blue", "flights", before=None, limit=2)] == [3, 2]
        assert [it.number for it in await store.page("blue", "flights", before=2, limit=2)] == [1]
        assert len(await store.page("blue", "flights", before=None, limit=9, lock=True)) == 3


async def test_an_alias_moves_and_counts_its_moves(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    first, second = await new_version(engine, model, 1), await new_version(engine, model, 2)
    async with engine.begin() as connection:
        store = AliasStore(connection)
        made = await store.add(model, "champion", first)
        moved = await store.move(model, "champion", second)
        assert (made.target, made.revision) == (Target(1, first.digest), 1)
        assert (moved.id, moved.target, moved.revision) == (made.id, Target(2, second.digest), 2)
        assert moved.updated_at > made.updated_at
        assert await store.names_of(first) == []
        assert await store.names_of(second) == ["champion"]
        await store.delete(model, "champion")
        assert await store.find(model, "champion") is None
        with pytest.raises(AliasNotFound):
            await store.get(model, "champion")


async def test_aliases_are_listed_by_name(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    version = await new_version(engine, model)
    async with engine.begin() as connection:
        store = AliasStore(connection)
        for name in ("c", "a", "b"):
            await store.add(model, name, version)
        assert [alias.name for alias in await store.page(model, after=None, limit=9)] == ["a", "b", "c"]
        assert [alias.name for alias in await store.page(model, after="a", limit=1)] == ["b"]


async def test_the_database_itself_keeps_what_an_alias_points_at(engine: AsyncEngine) -> None:
    model = await new_model(engine)
    version = await new_version(engine, model)
    async with engine.begin() as connection:
        await AliasStore(connection).add(model, "champion", version)
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await VersionStore(connection).delete(version)


async def test_the_ledger_keeps_its_lines_in_order(engine: AsyncEngine) -> None:
    one, two = Target(1, "sha256:1"), Target(2, "sha256:2")
    async with engine.begin() as connection:
        store = AliasStore(connection)
        for origin, target in ((None, one), (one, two), (two, None)):
            await store.note(ADA, "flights", "champion", origin=origin, target=target)
        await store.note(ADA, "flights", "shadow", origin=None, target=one)
        lines = await store.history("blue", "flights", "champion", before=None, limit=9)
        assert [(line.origin, line.target) for line in lines] == [(two, None), (one, two), (None, one)]
        assert {(line.subject, line.issuer) for line in lines} == {("ada", "gateway")}
        assert await store.history("blue", "flights", "champion", before=lines[1].number, limit=9) == lines[2:]
        assert await store.history("red", "flights", "champion", before=None, limit=9) == []


@pytest.mark.parametrize(
    "change", ["update alias_moves set subject = 'eve'", "delete from alias_moves", "truncate alias_moves"]
)
async def test_nobody_changes_the_ledger(engine: AsyncEngine, change: str) -> None:
    async with engine.begin() as connection:
        await AliasStore(connection).note(ADA, "flights", "champion", origin=None, target=Target(1, "sha256:1"))
    with pytest.raises(DBAPIError, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(sa.text(change))
    async with engine.begin() as connection:
        assert (await connection.execute(sa.select(alias_moves.c.subject))).scalars().all() == ["ada"]


def test_the_migrations_make_what_the_tables_say(empty_database_url: str) -> None:
    config = migrations.config("registry", empty_database_url)
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
