"""What requests do beyond one store: limits of uploads, versions made and dropped, retention."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from replicas_at_work import ReplicaOf
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import actions
from ingest.actions import Quota, Uploads
from ingest.domain.datasets import Dataset, DatasetHeld, DatasetNotFound
from ingest.domain.reports import Format
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import (
    Reference,
    Source,
    TooManyUploads,
    UploadEmpty,
    UploadNotFound,
    Version,
    VersionHeld,
    VersionNotFound,
    VersionNotReady,
)
from ingest.store.datasets import DatasetStore
from ingest.store.tables import uploads, versions
from ingest.store.versions import VersionStore
from kit import blobs, errors, holds
from kit.blobs import Blob, BlobStore
from kit.callers import Caller, Role
from kit.tables import audit, blob_links, events

ADA = Caller("blue", Role.EDITOR, "ada", "gateway")
MONTH = timedelta(days=30)
ROWS = b"id\n1\n2\n"
BAD = b"no header\0\n"


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


@pytest.fixture
def taking(engine: AsyncEngine, store: BlobStore) -> Uploads:
    return Uploads(engine, store, Quota(bytes=1000, uploads=2))


@pytest.fixture
async def flights(engine: AsyncEngine) -> Dataset:
    async with engine.begin() as connection:
        return await DatasetStore(connection).add("blue", "flights", DatasetSettings())


async def make(engine: AsyncEngine, taking: Uploads, data: bytes = ROWS) -> actions.Made:
    blob = await taking.take("blue", pieces(data))
    async with engine.begin() as connection:
        await actions.record_upload(connection, ADA, blob)
        return await actions.make_version(connection, ADA, "flights", Source(blob.digest, 0, Format.CSV, None))


async def count(engine: AsyncEngine, table: sa.Table) -> int:
    async with engine.begin() as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one())


async def test_uploads_under_way_count_too(taking: Uploads) -> None:
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await go.wait()

    under_way = [asyncio.create_task(taking.take("blue", slow())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyUploads):
        await taking.take("blue", pieces(b"a"))
    await taking.take("red", pieces(b"a"))
    go.set()
    await asyncio.gather(*under_way)
    await taking.take("blue", pieces(b"a"))


async def test_an_upload_that_is_cut_off_counts_no_more_and_leaves_nothing(
    taking: Uploads, objects_url: str, store: BlobStore
) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"a" * 100
        raise errors.Malformed("gone")

    for _ in range(5):
        with pytest.raises(errors.Malformed):
            await taking.take("blue", cut())
    for _ in range(5):
        with pytest.raises(errors.TooLarge):
            await taking.take("blue", pieces(b"a" * 600, b"b" * 600))
        with pytest.raises(UploadEmpty):
            await taking.take("blue", pieces())
    await taking.take("blue", pieces(b"a"))
    assert len([found async for page in store.blobs() for found in page]) == 1


async def test_a_version_needs_bytes_that_are_there(engine: AsyncEngine, flights: Dataset) -> None:
    async with engine.begin() as connection:
        with pytest.raises(UploadNotFound):
            await actions.make_version(connection, ADA, "flights", Source("sha256:" + "0" * 64, 0, Format.CSV, None))
        with pytest.raises(DatasetNotFound):
            await actions.make_version(connection, ADA, "trains", Source("sha256:" + "0" * 64, 0, Format.CSV, None))


async def test_bytes_that_are_being_collected_make_no_version(
    engine: AsyncEngine, flights: Dataset, taking: Uploads
) -> None:
    blob = await taking.take("blue", pieces(ROWS))
    async with engine.begin() as connection:
        await actions.record_upload(connection, ADA, blob)
    async with engine.begin() as connection:
        await connection.execute(sa.text("update blobs set state = 'dying', dying_since = clock_timestamp()"))
    async with engine.begin() as connection:
        with pytest.raises(UploadNotFound):
            await actions.make_version(connection, ADA, "flights", Source(blob.digest, 0, Format.CSV, None))
        with pytest.raises(blobs.BlobCollected):
            await actions.record_upload(connection, ADA, blob)


async def test_bytes_read_back_too_long_ago_are_not_recorded(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        with pytest.raises(blobs.BlobCollected):
            await actions.record_upload(connection, ADA, Blob("sha256:" + "0" * 64, 1, verified_at=-1e9))


async def test_the_same_source_makes_one_version(engine: AsyncEngine, flights: Dataset, taking: Uploads) -> None:
    first, again = await make(engine, taking), await make(engine, taking)
    assert (first.reused, again.reused, again.version) == (False, True, first.version)
    assert first.version.source.size == len(ROWS)
    assert await count(engine, versions) == 1


async def test_settings_that_are_the_same_change_nothing(engine: AsyncEngine, flights: Dataset) -> None:
    async with engine.begin() as connection:
        assert await actions.change_settings(connection, ADA, flights, DatasetSettings()) == flights
        changed = await actions.change_settings(connection, ADA, flights, DatasetSettings(nulls=["NA"]))
    assert changed.revision == flights.revision + 1
    assert await count(engine, audit) == 1


async def hold(engine: AsyncEngine, ref: str) -> str:
    async with engine.begin() as connection:
        found = await actions.find_held(connection, "blue", actions.NOUN, ref)
        await holds.place(connection, "blue", actions.NOUN, found, "job:1")
        return found


async def test_only_what_is_ready_is_held(
    engine: AsyncEngine, flights: Dataset, taking: Uploads, replica_of: ReplicaOf
) -> None:
    await make(engine, taking)
    with pytest.raises(VersionNotReady):
        await hold(engine, "flights@1")
    await replica_of().run()
    assert await hold(engine, "flights") == "flights@1"
    for ref in ("flights@2", "flights@x", "Flights!", "", "@1"):
        with pytest.raises((VersionNotFound, DatasetNotFound)):
            await hold(engine, ref)


async def test_a_hold_and_a_delete_at_one_time_never_both_succeed(
    engine: AsyncEngine, flights: Dataset, taking: Uploads, replica_of: ReplicaOf
) -> None:
    for number in range(1, 9):
        await make(engine, taking, f"id\n{number}\n".encode())
        await replica_of().run()

        async def delete(ref: Reference) -> None:
            async with engine.begin() as connection:
                await actions.delete_version(connection, ADA, "flights", ref)

        ends = await asyncio.gather(
            hold(engine, f"flights@{number}"), delete(Reference(number=number)), return_exceptions=True
        )
        assert sum(isinstance(end, Exception) for end in ends) == 1, ends
        assert isinstance(ends[0], VersionNotFound) or isinstance(ends[1], VersionHeld)


async def test_a_dataset_goes_whole_or_not_at_all(
    engine: AsyncEngine, flights: Dataset, taking: Uploads, replica_of: ReplicaOf
) -> None:
    for data in (b"id\n1\n", b"id\n2\n"):
        await make(engine, taking, data)
    await replica_of().run()
    await hold(engine, "flights@1")
    before = await count(engine, blob_links)

    async def delete() -> None:
        async with engine.begin() as connection:
            await actions.delete_dataset(connection, ADA, flights)

    with pytest.raises(DatasetHeld):
        await delete()
    assert (await count(engine, versions), await count(engine, blob_links)) == (2, before)
    async with engine.begin() as connection:
        await holds.release(connection, "blue", actions.NOUN, "flights@1", "job:1")
    await delete()
    assert (await count(engine, versions), await count(engine, blob_links)) == (0, 0)


async def fail_some(engine: AsyncEngine, taking: Uploads, replica_of: ReplicaOf, n: int) -> list[Version]:
    made = [(await make(engine, taking, BAD + str(number).encode())).version for number in range(n)]
    await replica_of().run()
    return made


async def test_old_failures_are_retired_with_all_that_they_hold(
    engine: AsyncEngine, flights: Dataset, taking: Uploads, replica_of: ReplicaOf
) -> None:
    await fail_some(engine, taking, replica_of, 3)
    await make(engine, taking)
    await replica_of().run()
    assert await actions.retire_failed(engine, MONTH) == 0
    async with engine.begin() as connection:
        await connection.execute(sa.update(versions).values(finished_at=versions.c.finished_at - 2 * MONTH))
    # In parts, so that no transaction locks a month's failures.
    assert await actions.retire_failed(engine, MONTH, limit=2) == 3
    async with engine.begin() as connection:
        left = await VersionStore(connection).page("blue", "flights", before=None, limit=9)
        number = sa.func.count().label("number")
        kinds = (await connection.execute(sa.select(events.c.kind, number).group_by(events.c.kind))).all()
    assert [version.number for version in left] == [4]
    assert {row.kind: row.number for row in kinds} == {
        "dataset.version.failed": 3,
        "dataset.version.ready": 1,
        "dataset.version.deleted": 3,
    }
    async with engine.begin() as connection:
        owners = set((await connection.execute(sa.select(blob_links.c.owner))).scalars())
    assert owners == {actions.owner_of(left[0])}


async def test_two_replicas_retire_each_failure_once(
    engine: AsyncEngine, flights: Dataset, taking: Uploads, replica_of: ReplicaOf
) -> None:
    await fail_some(engine, taking, replica_of, 6)
    retired = await asyncio.gather(*(actions.retire_failed(engine, timedelta(0), limit=1) for _ in range(3)))
    assert sum(retired) == 6
    assert await count(engine, versions) == 0


async def test_uploads_are_forgotten_after_a_day(engine: AsyncEngine, taking: Uploads) -> None:
    blob = await taking.take("blue", pieces(ROWS))
    async with engine.begin() as connection:
        await actions.record_upload(connection, ADA, blob)
    assert await actions.forget_uploads(engine) == 0
    async with engine.begin() as connection:
        await connection.execute(sa.update(uploads).values(created_at=uploads.c.created_at - timedelta(days=1)))
    assert await actions.forget_uploads(engine) == 1
