"""Uploads on the wire."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.app import create_app
from ingest.settings import Settings
from ingest.store.tables import uploads
from kit.blobs import BlobStore, collect
from kit.tables import audit, blobs
from kit.testing import KeyFolder, client_of
from kit.testing_objects import Objects

DATA = b"a,b\n1,2\n"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def objects(settings: Settings) -> list[bytes]:
    kept = Objects(settings.objects_url)
    return [kept.read(key) for key in kept.keys()]  # noqa: SIM118 - no dictionary


async def rows(engine: AsyncEngine) -> tuple[int, int]:
    """How many blobs and uploads the database knows."""
    async with engine.begin() as connection:
        counts = [
            (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
            for table in (blobs, uploads)
        ]
    return counts[0], counts[1]


async def test_an_upload_is_named_by_its_bytes(client: httpx2.AsyncClient, settings: Settings) -> None:
    made = await client.post("/v1/uploads", content=DATA)
    assert (made.status_code, made.json()) == (201, {"upload": DIGEST, "size": len(DATA)})
    assert objects(settings) == [DATA]


async def test_the_same_bytes_twice_are_one_upload(
    client: httpx2.AsyncClient, settings: Settings, engine: AsyncEngine
) -> None:
    answers = [await client.post("/v1/uploads", content=DATA) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(objects(settings)) == 1
    assert await rows(engine) == (1, 1)


async def test_an_upload_that_is_sent_again_is_answered_again(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    headers = {"idempotency-key": "one"}
    first = await client.post("/v1/uploads", content=DATA, headers=headers)
    again = await client.post("/v1/uploads", content=DATA, headers=headers)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (201, first.content, "true")
    other = await client.post("/v1/uploads", content=b"other", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert await rows(engine) == (2, 2)  # its bytes came, so that they count


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "one"}])
async def test_bytes_that_came_count_also_when_the_rest_is_refused(
    engine: AsyncEngine, settings: Settings, key_folder: KeyFolder, headers: dict[str, str]
) -> None:
    few = settings.model_copy(update={"open_uploads": 1})
    async with client_of(create_app(few), key_folder.headers("ingest", project="blue")) as client:

        async def pieces() -> AsyncIterator[bytes]:
            assert (await client.delete("/v1/datasets/d")).status_code == 204
            yield DATA

        await client.post("/v1/datasets", json={"name": "d"})
        path, csv = "/v1/datasets/d/versions", {"content-type": "text/csv", **headers}
        gone = await client.post(path, content=pieces(), headers=csv)
        assert (gone.status_code, gone.json()["code"]) == (404, "dataset-not-found")
        assert await rows(engine) == (1, 1)
        refused = await client.post("/v1/uploads", content=b"more")
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-uploads")


async def test_a_stream_need_not_say_how_long_it_is(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in DATA:
            yield bytes([byte])

    assert (await client.post("/v1/uploads", content=pieces())).json()["upload"] == DIGEST


async def test_the_digest_may_be_told_beforehand(
    client: httpx2.AsyncClient, settings: Settings, engine: AsyncEngine
) -> None:
    assert (await client.post("/v1/uploads", params={"sha256": DIGEST}, content=DATA)).status_code == 201
    wrong = await client.post("/v1/uploads", params={"sha256": DIGEST}, content=b"others")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "digest-mismatch")
    assert objects(settings) == [DATA]
    assert await rows(engine) == (1, 1)
    nonsense = await client.post("/v1/uploads", params={"sha256": "abc"}, content=DATA)
    assert (nonsense.status_code, nonsense.json()["errors"][0]["pointer"]) == (422, "?sha256")


async def test_nothing_is_no_upload(client: httpx2.AsyncClient, settings: Settings) -> None:
    refused = await client.post("/v1/uploads", content=b"")
    assert (refused.status_code, refused.json()["code"]) == (422, "upload-empty")
    assert objects(settings) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_more_than_is_taken_is_refused_and_leaves_nothing(
    engine: AsyncEngine, settings: Settings, key_folder: KeyFolder, announced: bool
) -> None:
    small = settings.model_copy(update={"upload_bytes": 10})
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"12345"

    headers = {"content-length": "500"} if announced else {}
    async with client_of(create_app(small), key_folder.headers("ingest")) as client:
        refused = await client.post("/v1/uploads", content=pieces(), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "content-too-large")
    assert objects(settings) == []
    assert await rows(engine) == (0, 0)


async def test_a_project_keeps_so_many_uploads_open(
    engine: AsyncEngine, settings: Settings, key_folder: KeyFolder
) -> None:
    few = settings.model_copy(update={"open_uploads": 2})
    async with client_of(create_app(few), key_folder.headers("ingest", project="blue")) as client:
        for data in (b"1", b"2"):
            assert (await client.post("/v1/uploads", content=data)).status_code == 201
        refused = await client.post("/v1/uploads", content=b"3")
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-uploads")
        assert "retry-after" in refused.headers
        async with client_of(create_app(few), key_folder.headers("ingest", project="red")) as other:
            assert (await other.post("/v1/uploads", content=b"3")).status_code == 201
        # One that a version uses is not open any more.
        await client.post("/v1/datasets", json={"name": "d"})
        await client.post("/v1/datasets/d/versions", json={"upload": f"sha256:{hashlib.sha256(b'1').hexdigest()}"})
        assert (await client.post("/v1/uploads", content=b"3")).status_code == 201


async def test_a_deleted_upload_counts_no_more_and_its_bytes_go(
    engine: AsyncEngine, settings: Settings, key_folder: KeyFolder, store: BlobStore
) -> None:
    few = settings.model_copy(update={"open_uploads": 1})
    async with client_of(create_app(few), key_folder.headers("ingest", project="blue")) as client:
        await client.post("/v1/datasets", json={"name": "d"})
        assert (await client.post("/v1/uploads", content=DATA)).status_code == 201
        assert (await client.delete(f"/v1/uploads/{DIGEST}")).status_code == 204
        again = await client.delete(f"/v1/uploads/{DIGEST}")
        assert (again.status_code, again.json()["code"]) == (404, "upload-unknown")
        none = await client.post("/v1/datasets/d/versions", json={"upload": DIGEST})
        assert (none.status_code, none.json()["code"]) == (422, "upload-not-found")
        assert (await client.post("/v1/uploads", content=b"3")).status_code == 201
        await collect(engine, store, settle=timedelta(0))
        assert objects(settings) == [b"3"]
    async with engine.begin() as connection:
        done = await connection.execute(sa.select(audit.c.action).where(audit.c.noun == "upload").order_by(audit.c.id))
    assert list(done.scalars()) == ["create", "delete", "create"]


async def test_an_upload_that_a_version_uses_stays(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    path = f"/v1/uploads/{DIGEST}"
    await client.post("/v1/datasets", json={"name": "d"})
    for again in (False, True):  # sent again it is one of those that wait, too
        await client.post("/v1/uploads", content=DATA)
        if not again:
            await client.post("/v1/datasets/d/versions", json={"upload": DIGEST})
        refused = await client.delete(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "upload-in-use")
        assert (refused.json()["used_by"], "d@1" in refused.json()["detail"]) == (["d@1"], True)
    assert (await client.delete("/v1/datasets/d/versions/1")).status_code == 204
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete("/v1/uploads/none")).status_code == 422


async def test_a_version_and_the_end_of_its_upload_at_once_are_never_both(client: httpx2.AsyncClient) -> None:
    await client.post("/v1/datasets", json={"name": "d"})
    for number in range(5):
        data = f"a\n{number}\n".encode()
        digest = (await client.post("/v1/uploads", content=data)).json()["upload"]
        made, deleted = await asyncio.gather(
            client.post("/v1/datasets/d/versions", json={"upload": digest}), client.delete(f"/v1/uploads/{digest}")
        )
        assert (made.status_code, deleted.status_code) in {(202, 409), (422, 204), (503, 204)}


async def test_what_the_store_cannot_take_now_may_be_sent_again(
    client: httpx2.AsyncClient, settings: Settings, engine: AsyncEngine
) -> None:
    if settings.objects_url.startswith("s3:"):
        pytest.skip("what stands in the way is a file")
    root = Path(settings.objects_url.removeprefix("file://"))
    (root / "staging").write_text("in the way")
    refused = await client.post("/v1/uploads", content=DATA, headers={"idempotency-key": "one"})
    assert (refused.status_code, refused.json()["code"]) == (503, "dependency-unavailable")
    assert await rows(engine) == (0, 0)
    (root / "staging").unlink()
    again = await client.post("/v1/uploads", content=DATA, headers={"idempotency-key": "one"})
    assert (again.status_code, again.json()["upload"]) == (201, DIGEST)
