"""Datasets, versions and uploads in the database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.domain.datasets import Dataset, DatasetExists, DatasetNotFound
from ingest.domain.reports import Compression, Format
from ingest.domain.schema import Column, ColumnType
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import Contents, Phase, Reference, Shard, Source, Version, VersionNotFound
from ingest.store.datasets import DatasetStore
from ingest.store.tables import uploads, versions
from ingest.store.versions import VersionStore
from kit import leases, migrations

TTL = timedelta(seconds=30)
DAY = timedelta(days=1)
SOURCE = Source("sha256:" + "a" * 64, 10, Format.CSV, Compression.GZIP)
CONTENTS = Contents(
    columns=[Column("a", ColumnType.INTEGER)],
    rows_in=3,
    rows=2,
    rejected=1,
    coerced=0,
    splits={"train": 2, "held_out": 0},
    shards=[Shard("sha256:" + "b" * 64, 100, 2, "train")],
    rejects="sha256:" + "c" * 64,
    profile="sha256:" + "d" * 64,
)


async def new_dataset(engine: AsyncEngine, name: str = "flights", project: str = "blue") -> Dataset:
    async with engine.begin() as connection:
        return await DatasetStore(connection).add(project, name, DatasetSettings())


async def new_version(engine: AsyncEngine, dataset: Dataset, digit: str = "a") -> Version:
    async with engine.begin() as connection:
        locked = await DatasetStore(connection).get(dataset.project, dataset.name, lock=True)
        return await VersionStore(connection).add(locked, Source("sha256:" + digit * 64, 10, Format.CSV, None))


async def get(engine: AsyncEngine, reference: Reference, name: str = "flights", project: str = "blue") -> Version:
    async with engine.begin() as connection:
        return await VersionStore(connection).get(project, name, reference)


async def finish(engine: AsyncEngine, phase: Phase, digest: str | None = None) -> None:
    async with engine.begin() as connection:
        [lease] = await leases.lease_due(connection, versions, 1, ttl=TTL)
        store = VersionStore(connection)
        seen = await store.by_id(lease.project, lease.id)
        assert await store.settle(lease, seen, phase=phase, digest=digest, contents=CONTENTS if digest else None)


async def test_a_dataset_reads_back(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    async with engine.begin() as connection:
        assert await DatasetStore(connection).get("blue", "flights") == dataset
    assert (dataset.revision, dataset.settings) == (1, DatasetSettings())


async def test_a_name_is_taken_once_in_a_project(engine: AsyncEngine) -> None:
    await new_dataset(engine)
    with pytest.raises(DatasetExists):
        await new_dataset(engine)
    await new_dataset(engine, project="red")


async def test_another_projects_dataset_is_not_found(engine: AsyncEngine) -> None:
    await new_dataset(engine)
    async with engine.begin() as connection:
        with pytest.raises(DatasetNotFound):
            await DatasetStore(connection).get("red", "flights")


async def test_datasets_are_listed_by_name(engine: AsyncEngine) -> None:
    for name in ("c", "a", "b"):
        await new_dataset(engine, name)
    await new_dataset(engine, "d", project="red")
    async with engine.begin() as connection:
        store = DatasetStore(connection)
        assert [dataset.name for dataset in await store.page("blue", after=None, limit=9)] == ["a", "b", "c"]
        assert [dataset.name for dataset in await store.page("blue", after="a", limit=1)] == ["b"]


async def test_changed_settings_are_another_revision(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    settings = DatasetSettings.model_validate({"key": ["a"], "checks": [{"column": "a", "check": "range", "min": 1.5}]})
    async with engine.begin() as connection:
        changed = await DatasetStore(connection).change(dataset, settings)
    assert (changed.revision, changed.settings) == (2, settings)
    assert changed.updated_at > dataset.updated_at


async def test_numbers_count_up_and_are_never_given_again(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    assert [(await new_version(engine, dataset, digit)).number for digit in "abc"] == [1, 2, 3]
    async with engine.begin() as connection:
        store = VersionStore(connection)
        for version in await store.page("blue", "flights", before=None, limit=9):
            await store.delete(version)
        await DatasetStore(connection).delete(dataset)
    assert (await new_version(engine, await new_dataset(engine))).number == 4


async def test_a_version_is_found_by_number_by_digest_and_as_the_latest_ready_one(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    first = await new_version(engine, dataset, "a")
    with pytest.raises(VersionNotFound):
        await get(engine, Reference())
    await finish(engine, Phase.READY, "sha256:1")
    second = await new_version(engine, dataset, "b")
    await finish(engine, Phase.FAILED)
    assert (await get(engine, Reference())).id == first.id
    assert (await get(engine, Reference(digest="sha256:1"))).id == first.id
    assert (await get(engine, Reference(number=2))).id == second.id
    for reference in (Reference(number=3), Reference(digest="sha256:2")):
        with pytest.raises(VersionNotFound):
            await get(engine, reference)
    with pytest.raises(VersionNotFound):
        await get(engine, Reference(number=1), project="red")


async def test_what_parsing_made_reads_back(engine: AsyncEngine) -> None:
    await new_version(engine, await new_dataset(engine))
    await finish(engine, Phase.READY, "sha256:1")
    version = await get(engine, Reference())
    assert version.contents == CONTENTS
    assert version.finished_at is not None


async def test_the_same_bytes_and_settings_are_known_unless_they_failed(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)

    async def same(settings: DatasetSettings | None = None, **source: Any) -> Version | None:
        async with engine.begin() as connection:
            store = DatasetStore(connection)
            used = await store.change(dataset, settings) if settings else dataset
            return await VersionStore(connection).same(used, Source(**{**vars(SOURCE), "compression": None, **source}))

    version = await new_version(engine, dataset)
    assert await same() == version
    assert await same(size=0) == version
    assert await same(format=Format.PARQUET) is None
    assert await same(digest="sha256:" + "b" * 64) is None
    assert await same(settings=DatasetSettings(nulls=["NA"])) is None
    await finish(engine, Phase.FAILED)
    assert await same() is None
    assert (await new_version(engine, dataset)).number == 2


async def test_the_database_itself_takes_equal_versions_once(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    await new_version(engine, dataset)
    with pytest.raises(IntegrityError):
        await new_version(engine, dataset)


async def test_a_finished_version_is_not_begun_again(engine: AsyncEngine) -> None:
    await new_version(engine, await new_dataset(engine))
    async with engine.begin() as connection:
        store = VersionStore(connection)
        [lease] = await leases.lease_due(connection, versions, 1, ttl=TTL)
        seen = await store.by_id(lease.project, lease.id)
        assert await store.begin(lease, seen)
        assert (await store.by_id(lease.project, lease.id)).attempts == 1
        assert await store.settle(lease, seen, phase=Phase.READY)
        assert not await store.begin(lease, seen)
        assert not await store.settle(lease, seen, phase=Phase.FAILED)
        assert (await store.by_id(lease.project, lease.id)).phase is Phase.READY


async def test_only_old_failures_are_old_failures(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    for digit, phase in (("a", Phase.FAILED), ("b", Phase.READY), ("c", Phase.FAILED)):
        await new_version(engine, dataset, digit)
        await finish(engine, phase)
    async with engine.begin() as connection:
        moved = sa.update(versions).where(versions.c.number < 3).values(finished_at=versions.c.finished_at - 2 * DAY)
        await connection.execute(moved)
        assert [old.number for old in await VersionStore(connection).failed_before(DAY, limit=9)] == [1]


async def test_open_uploads_are_counted_for_a_day(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        store = VersionStore(connection)
        for digest in ("a", "b", "a"):
            await store.note_upload("blue", digest)
        assert await store.open_uploads("blue", since=DAY) == 2
        assert await store.open_uploads("red", since=DAY) == 0
        await connection.execute(sa.update(uploads).values(created_at=uploads.c.created_at - DAY))
        assert await store.open_uploads("blue", since=DAY) == 0
        assert await store.forget_uploads(since=DAY) == 2


async def test_requests_for_one_dataset_take_turns(engine: AsyncEngine) -> None:
    dataset = await new_dataset(engine)
    numbers = await asyncio.gather(*(new_version(engine, dataset, digit) for digit in "abcdef"))
    assert sorted(version.number for version in numbers) == [1, 2, 3, 4, 5, 6]


def test_the_migrations_make_what_the_tables_say(empty_database_url: str) -> None:
    config = migrations.config("ingest", empty_database_url)
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
