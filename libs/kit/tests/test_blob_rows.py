"""Which blobs are kept, which are collected, and that the two never meet."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blob_rows, blobs, db, errors, tables
from kit.blobs import Blob, BlobStore, collect

NOW, DAY = timedelta(0), timedelta(days=1)
OWNER = "dataset-version:1"


@pytest.fixture
async def engine(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = db.make_engine(empty_database_url)
    metadata = tables.metadata_of()
    tables.install(metadata)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
def store(objects_url: str) -> BlobStore:
    return BlobStore(objects_url, "ingest")


async def put(store: BlobStore, data: bytes = b"bytes") -> Blob:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return await store.publish("blue", await store.stage(chunks(), 1 << 30))


async def record(engine: AsyncEngine, blob: Blob, *, owner: str | None = None) -> None:
    async with engine.begin() as connection:
        await blobs.record(connection, "blue", blob)
        if owner is not None:
            await blobs.link(connection, "blue", blob.digest, owner)


async def link(engine: AsyncEngine, digest: str, owner: str = OWNER) -> None:
    async with engine.begin() as connection:
        await blobs.link(connection, "blue", digest, owner)


async def unlink(engine: AsyncEngine, owner: str = OWNER) -> None:
    async with engine.begin() as connection:
        await blobs.unlink(connection, "blue", owner)


async def states(engine: AsyncEngine) -> list[str]:
    async with engine.begin() as connection:
        return list((await connection.execute(sa.select(tables.blobs.c.state))).scalars())


async def pass_time(engine: AsyncEngine, by: timedelta) -> None:
    """Nobody can move the database's clock, so the rows are moved the other way."""
    blob = tables.blobs
    async with engine.begin() as connection:
        moved = {"created_at": blob.c.created_at - by, "dying_since": blob.c.dying_since - by}
        await connection.execute(sa.update(blob).values(moved))


async def test_an_upload_is_kept_for_a_day_and_then_collected(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    await record(engine, blob)
    assert (await collect(engine, store)).condemned == 0
    await pass_time(engine, DAY)
    assert (await collect(engine, store)).condemned == 1
    assert await store.read("blue", blob.digest) == b"bytes"
    await pass_time(engine, blob_rows.SETTLE)
    assert (await collect(engine, store)).deleted == 1
    assert await states(engine) == ["gone"]
    await pass_time(engine, blob_rows.SETTLE)
    assert (await collect(engine, store)).forgotten == 1
    assert await states(engine) == []
    with pytest.raises(errors.Corrupt):
        await store.read("blue", blob.digest)


async def test_sending_the_same_bytes_again_begins_the_day_anew(engine: AsyncEngine, store: BlobStore) -> None:
    await record(engine, await put(store))
    await pass_time(engine, DAY)
    await record(engine, await put(store))
    assert (await collect(engine, store)).condemned == 0


async def test_a_linked_blob_is_kept_until_its_last_owner_lets_go(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    await record(engine, blob, owner="a")
    await link(engine, blob.digest, "b")
    await link(engine, blob.digest, "b")
    await pass_time(engine, DAY)
    await unlink(engine, "a")
    assert (await collect(engine, store)).condemned == 0
    await unlink(engine, "b")
    assert (await collect(engine, store)).condemned == 1


async def test_a_live_blob_can_be_found_and_no_other(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    async with engine.begin() as connection:
        assert await blobs.find(connection, "blue", blob.digest) is None
    await record(engine, blob)
    async with engine.begin() as connection:
        assert await blobs.find(connection, "blue", blob.digest) == blob
        assert await blobs.find(connection, "red", blob.digest) is None
    await collect(engine, store, grace=NOW)
    async with engine.begin() as connection:
        assert await blobs.find(connection, "blue", blob.digest) is None


async def test_a_dying_blob_is_neither_linked_nor_recorded_anew(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    await record(engine, blob)
    await collect(engine, store, grace=NOW)
    assert await states(engine) == ["dying"]
    with pytest.raises(blobs.BlobCollected) as caught:
        await link(engine, blob.digest)
    assert caught.value.retry_after == blob_rows.SETTLE
    with pytest.raises(blobs.BlobCollected):
        await record(engine, await put(store))


async def test_after_its_end_the_same_bytes_begin_anew(engine: AsyncEngine, store: BlobStore) -> None:
    await record(engine, await put(store))
    await collect(engine, store, grace=NOW, settle=NOW)
    assert await states(engine) == []
    again = await put(store)
    await record(engine, again, owner=OWNER)
    assert await store.read("blue", again.digest) == b"bytes"


async def test_bytes_published_while_their_object_was_deleted_are_not_recorded(
    engine: AsyncEngine, store: BlobStore
) -> None:
    await record(engine, await put(store))
    await collect(engine, store, grace=NOW)
    late = await put(store)  # it was read back here …
    await pass_time(engine, blob_rows.SETTLE)
    await collect(engine, store, grace=NOW)  # … and deleted here
    with pytest.raises(blobs.BlobCollected):
        await record(engine, late)


async def test_bytes_read_back_long_ago_are_not_recorded(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    old = Blob(blob.digest, blob.size, blob.verified_at - blob_rows.FRESH.total_seconds())
    with pytest.raises(blobs.BlobCollected):
        await record(engine, old)


async def test_an_unknown_blob_is_not_linked(engine: AsyncEngine) -> None:
    with pytest.raises(blobs.BlobNotFound):
        await link(engine, "sha256:" + "0" * 64)


async def test_an_object_without_a_row_is_collected(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    assert (await collect(engine, store)).orphans == 0
    assert (await collect(engine, store, grace=NOW)).orphans == 1
    assert await states(engine) == ["dying"]
    await pass_time(engine, blob_rows.SETTLE)
    assert (await collect(engine, store)).deleted == 1
    with pytest.raises(errors.Corrupt):
        await store.read("blue", blob.digest)


async def test_other_services_objects_and_strange_names_are_left_alone(
    engine: AsyncEngine, store: BlobStore, objects_url: str, tmp_path: Path
) -> None:
    other = BlobStore(objects_url, "registry")
    blob = await put(other)
    note = tmp_path / "objects" / "blobs" / "ingest" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("from a human")
    await collect(engine, store, grace=NOW, settle=NOW)
    assert await other.read("blue", blob.digest) == b"bytes"
    assert note.exists()


async def test_staged_bytes_that_nobody_published_are_collected(engine: AsyncEngine, store: BlobStore) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half of something"

    await store.stage(chunks(), 1 << 20)
    assert (await collect(engine, store)).stale == 0
    assert (await collect(engine, store, stale=-DAY)).stale == 1


async def test_a_collection_sees_the_link_that_is_just_being_made(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    await record(engine, blob)
    async with asyncio.timeout(5), engine.begin() as linking:
        await blobs.link(linking, "blue", blob.digest, OWNER)
        async with engine.begin() as collecting:
            assert await blob_rows.condemn(collecting, NOW, 10) == 0
    assert await states(engine) == ["live"]


async def test_a_link_waits_for_the_collection_that_has_chosen_its_blob(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    await record(engine, blob)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        async with engine.begin() as collecting:
            assert await blob_rows.condemn(collecting, NOW, 10) == 1
            linked = group.create_task(refused(engine, blob))
        assert await linked


async def refused(engine: AsyncEngine, blob: Blob) -> bool:
    try:
        await link(engine, blob.digest)
    except blobs.BlobCollected:
        return True
    return False


async def test_collections_and_uploads_at_one_time_lose_nothing(engine: AsyncEngine, store: BlobStore) -> None:
    # In the proportion of SETTLE to FRESH, so that a slow machine proves the same.
    settle, fresh = timedelta(milliseconds=400), 0.1
    done = asyncio.Event()
    kept: set[str] = set()

    async def collecting() -> None:
        while not done.is_set():
            await collect(engine, store, grace=NOW, settle=settle)

    async def uploading(name: str) -> None:
        for turn in range(60):
            # Few different bytes, so that everybody sends what somebody's collection is just at.
            owner = f"{name}:{turn}"
            try:
                blob = await put(store, b"%d" % (turn % 4))
                if time.monotonic() - blob.verified_at > fresh:
                    continue
                await record(engine, blob, owner=owner)
            except errors.Unavailable:
                continue
            assert await store.read("blue", blob.digest) == b"%d" % (turn % 4)
            kept.add(owner)
            await unlink(engine, owner)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        collectors = [group.create_task(collecting()) for _ in range(2)]
        await asyncio.gather(*(uploading(name) for name in "abc"))
        done.set()
        await asyncio.gather(*collectors)
    assert kept
    assert await unreadable(engine, store) == []


async def unreadable(engine: AsyncEngine, store: BlobStore) -> list[str]:
    async with engine.begin() as connection:
        live = sa.select(tables.blobs.c.digest).where(tables.blobs.c.state == "live")
        digests = list((await connection.execute(live)).scalars())
    return [digest for digest in digests if not await is_readable(store, digest)]


async def is_readable(store: BlobStore, digest: str) -> bool:
    try:
        await store.check("blue", digest)
    except errors.Corrupt:
        return False
    return True


async def test_a_collection_that_stalled_deletes_nothing_any_more(engine: AsyncEngine, store: BlobStore) -> None:
    blob = await put(store)
    await record(engine, blob)
    await collect(engine, store, grace=NOW)
    stalling = itertools.count(step=blob_rows.FRESH.total_seconds() + 1)
    assert (await collect(engine, store, grace=NOW, settle=NOW, clock=stalling.__next__)).deleted == 0
    assert await store.read("blue", blob.digest) == b"bytes"
