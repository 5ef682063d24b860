"""Objects that are not what the database says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blobs, verify
from kit.blobs import Blob, BlobStore
from kit.tables import blobs as rows

OWNER = "model-version:1"


@pytest.fixture
def store(objects_url: str) -> BlobStore:
    return BlobStore(objects_url, "lamps")


async def put(engine: AsyncEngine, store: BlobStore, data: bytes, owner: str | None = OWNER) -> Blob:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    blob = await store.publish("blue", await store.stage(chunks(), 1 << 20))
    async with engine.begin() as connection:
        await blobs.record(connection, "blue", blob)
        if owner:
            await blobs.link(connection, "blue", blob.digest, owner)
    return blob


def path_of(store: BlobStore, objects_url: str, blob: Blob) -> Path:
    return Path(urlsplit(objects_url).path) / store.key_of("blue", blob.digest)


async def command(engine: AsyncEngine, objects_url: str | None, *arguments: str) -> int:
    url = engine.url.render_as_string(hide_password=False)
    return await asyncio.to_thread(verify.run, "lamps", url, objects_url, arguments)


async def test_all_that_is_named_is_there(
    engine: AsyncEngine, store: BlobStore, objects_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(verify.BATCH + 3):
        await put(engine, store, b"%d" % number)
    assert await command(engine, objects_url) == 0
    assert await command(engine, objects_url, "--deep") == 0
    assert capfd.readouterr().out.splitlines() == [
        "lamps: 503 objects looked for, 0 not as they should be.",
        "lamps: 503 objects read, 0 not as they should be.",
    ]


async def test_what_is_missing_or_cut_off_is_named_with_those_who_need_it(
    engine: AsyncEngine, store: BlobStore, objects_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await put(engine, store, b"whole")
    missing, cut = await put(engine, store, b"missing"), await put(engine, store, b"cut off", owner=None)
    path_of(store, objects_url, missing).unlink()
    path_of(store, objects_url, cut).write_bytes(b"cut")
    assert await command(engine, objects_url) == 1
    assert set(capfd.readouterr().out.splitlines()) == {
        f"missing: {missing.digest} of project blue, needed by {OWNER}",
        f"3 bytes instead of 7: {cut.digest} of project blue, needed by nothing yet",
        "lamps: 3 objects looked for, 2 not as they should be.",
    }


async def test_a_flipped_byte_is_found_by_reading(
    engine: AsyncEngine, store: BlobStore, objects_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    blob = await put(engine, store, b"bytes")
    path_of(store, objects_url, blob).write_bytes(b"bytez")
    assert await command(engine, objects_url) == 0
    assert await command(engine, objects_url, "--deep") == 1
    assert f"damaged: {blob.digest}" in capfd.readouterr().out


async def test_what_is_given_up_while_it_is_looked_for_is_no_finding(
    engine: AsyncEngine, store: BlobStore, objects_url: str
) -> None:
    blob = await put(engine, store, b"bytes", owner=None)
    await store.delete("blue", blob.digest)

    class GivenUp(BlobStore):
        async def size_of(self, project: str, digest: str) -> int | None:
            async with engine.begin() as connection:
                await connection.execute(sa.update(rows).values(state="gone"))
            return None

    report = await verify.verify(engine, GivenUp(objects_url, "lamps"))
    assert report == verify.Report(1, [])


async def test_a_service_without_objects_says_so(engine: AsyncEngine, capfd: pytest.CaptureFixture[str]) -> None:
    assert await command(engine, None) == 0
    assert "keeps no objects" in capfd.readouterr().out


async def test_nobody_can_say_without_a_database(capfd: pytest.CaptureFixture[str], objects_url: str) -> None:
    url = "postgresql+psycopg://ada:hush@127.0.0.1:1/none"
    assert await asyncio.to_thread(verify.run, "lamps", url, objects_url, []) == 1
    said = capfd.readouterr().err
    assert "could not be verified" in said
    assert "hush" not in said
