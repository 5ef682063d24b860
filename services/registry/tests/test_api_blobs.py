"""Bytes of models to come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import tables
from kit.app import Service
from kit.blobs import BlobStore
from kit.testing_objects import Objects
from registry.testing import FILE, Headers, Trainer, code_of, digest_of


def objects(objects_url: str) -> list[str]:
    """All that lies in the object store."""
    return Objects(objects_url).keys()


async def rows(engine: AsyncEngine) -> list[tuple[str, str, str]]:
    query = sa.select(tables.blobs.c.project, tables.blobs.c.digest, tables.blobs.c.state)
    async with engine.begin() as connection:
        return [(row.project, row.digest, row.state) for row in await connection.execute(query)]


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def test_bytes_are_taken_in_and_again(
    trainer: Trainer, engine: AsyncEngine, store: BlobStore, objects_url: str
) -> None:
    for _ in range(2):
        answer = await trainer.upload()
        assert (answer.status_code, answer.json()) == (200, {"digest": digest_of(FILE), "size": len(FILE)})
    assert await rows(engine) == [("demo", digest_of(FILE), "live")]
    assert await store.read("demo", digest_of(FILE)) == FILE
    assert len(objects(objects_url)) == 1


async def test_bytes_come_in_pieces(trainer: Trainer, store: BlobStore) -> None:
    data = [bytes([number]) * 10_000 for number in range(20)]
    digest = digest_of(b"".join(data))
    answer = await trainer.http.put(f"/internal/v1/blobs/{digest}", content=pieces(*data))
    assert (answer.status_code, answer.json()["size"]) == (200, 200_000)
    assert await store.read("demo", digest) == b"".join(data)


async def test_no_bytes_are_bytes(trainer: Trainer) -> None:
    assert (await trainer.upload(b"")).json() == {"digest": digest_of(b""), "size": 0}


async def test_other_bytes_are_refused_and_leave_nothing(
    trainer: Trainer, engine: AsyncEngine, objects_url: str
) -> None:
    refused = await trainer.upload(b"other", digest_of(FILE))
    assert code_of(refused) == (422, "digest-mismatch")
    assert (await rows(engine), objects(objects_url)) == ([], [])
    await trainer.upload()
    assert code_of(await trainer.upload(b"other", digest_of(FILE))) == (422, "digest-mismatch")
    assert (await trainer.upload()).status_code == 200


async def test_more_than_a_file_may_have_is_refused(trainer: Trainer, engine: AsyncEngine, objects_url: str) -> None:
    data = b"x" * ((1 << 20) + 1)
    announced = await trainer.upload(data)
    streamed = await trainer.http.put(f"/internal/v1/blobs/{digest_of(data)}", content=pieces(data[:-1], data[-1:]))
    for answer in (announced, streamed):
        assert code_of(answer) == (413, "content-too-large")
    assert (await rows(engine), objects(objects_url)) == ([], [])


@pytest.mark.parametrize(
    "digest",
    ["sha256:ab", "md5:" + "a" * 32, "sha256:" + "A" * 64, "a" * 64, "..", "%00", "sha256:" + "a" * 64 + "%0a"],
)
async def test_what_is_no_digest_names_no_bytes(trainer: Trainer, digest: str, objects_url: str) -> None:
    answer = await trainer.http.put(f"/internal/v1/blobs/{digest}", content=FILE)
    assert answer.status_code in (404, 405, 422), answer.text
    assert objects(objects_url) == []


async def test_encoded_bytes_are_refused(trainer: Trainer) -> None:
    path = f"/internal/v1/blobs/{digest_of(FILE)}"
    answer = await trainer.http.put(path, content=FILE, headers={"content-encoding": "gzip"})
    assert code_of(answer) == (415, "unsupported-media-type")


async def test_projects_have_their_own_bytes(trainer: Trainer, engine: AsyncEngine, headers: Headers) -> None:
    await trainer.upload()
    trainer.http.headers.update(headers(issuer="trainer", project="red"))
    await trainer.upload()
    assert sorted(project for project, _, _ in await rows(engine)) == ["demo", "red"]


async def test_many_who_send_the_same_bytes_send_them_once(
    trainer: Trainer, engine: AsyncEngine, objects_url: str
) -> None:
    answers = await asyncio.gather(*(trainer.upload() for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert (len(await rows(engine)), len(objects(objects_url))) == (1, 1)


async def test_a_body_that_is_cut_off_leaves_nothing(
    app: Service, engine: AsyncEngine, headers: Headers, objects_url: str
) -> None:
    said = [(name.encode(), value.encode()) for name, value in headers(issuer="trainer").items()]
    path = f"/internal/v1/blobs/{digest_of(FILE)}"
    scope: dict[str, Any] = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": said,
        "scheme": "http",
        "http_version": "1.1",
        "server": ("service", 80),
        "client": ("127.0.0.1", 1),
    }
    messages = iter([{"type": "http.request", "body": FILE, "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async with app.api.router.lifespan_context(app.api) as state:
        await app({**scope, "state": dict(state or {})}, receive, send)
    assert sent[0]["status"] == 400
    assert (await rows(engine), objects(objects_url)) == ([], [])
