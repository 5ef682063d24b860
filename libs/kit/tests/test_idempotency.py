"""A POST that is sent again has one effect and one answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import idempotency
from kit.app import Service
from kit.callers import Role
from kit.tables import audit, events, idempotency_keys
from kit.testing import KeyFolder, client_of

from .lamps.store.tables import lamps

KEY = {"idempotency-key": "k-1"}
RED, BLUE = {"name": "red"}, {"name": "blue"}


async def count(engine: AsyncEngine, table: sa.Table) -> int:
    async with engine.begin() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()


@contextlib.asynccontextmanager
async def held(engine: AsyncEngine, key: str) -> AsyncIterator[AsyncConnection]:
    """A request with this key that is under way elsewhere."""
    async with engine.begin() as connection:
        await idempotency._lock(connection, "demo", key)
        yield connection


async def test_a_repetition_is_answered_with_the_same_bytes_and_has_no_second_effect(
    client: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    first = await client.post("/v1/lamps", json=RED, headers=KEY)
    again = await client.post("/v1/lamps", json=RED, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert [await count(engine, table) for table in (lamps, events, audit, idempotency_keys)] == [1, 1, 1, 1]


@pytest.mark.parametrize("path", ["/v1/lamps", "/v1/lamps/stream"])
async def test_a_key_is_for_one_request(client: httpx2.AsyncClient, engine: AsyncEngine, path: str) -> None:
    assert (await client.post(path, json=RED, headers=KEY)).is_success
    other = await client.post(path, json=BLUE, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    query = await client.post(f"{path}?a=b", json=RED, headers=KEY)
    assert query.status_code == 422
    assert await count(engine, lamps) == 1


@pytest.mark.parametrize("path", ["/v1/lamps", "/v1/lamps/stream"])
async def test_a_duplicate_of_what_is_under_way_is_refused_and_not_made_to_wait(
    client: httpx2.AsyncClient, engine: AsyncEngine, path: str
) -> None:
    async with held(engine, "k-1"):
        answer = await client.post(path, json=RED, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
    assert answer.headers["retry-after"] == "1"
    assert (await client.post(path, json=RED, headers=KEY)).is_success


async def test_of_many_duplicates_at_once_one_has_the_effect(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    answers = await asyncio.gather(*(client.post("/v1/lamps", json=RED, headers=KEY) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert [answer.status_code for answer in answers if "idempotent-replayed" not in answer.headers].count(201) == 1
    assert await count(engine, lamps) == 1


async def test_what_failed_is_not_stored_and_may_be_tried_again(
    client: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    assert (await client.post("/v1/lamps", json={"name": ""}, headers=KEY)).status_code == 422
    torn = {**KEY, "content-type": "application/json"}
    assert (await client.post("/v1/lamps", content=b"{", headers=torn)).status_code == 400
    await client.post("/v1/lamps", json=BLUE)
    assert (await client.post("/v1/lamps", json=BLUE, headers=KEY)).json()["code"] == "lamp-exists"
    assert await count(engine, idempotency_keys) == 0
    assert (await client.post("/v1/lamps", json=RED, headers=KEY)).status_code == 201


async def test_an_answer_that_is_an_error_undoes_its_effect(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    for _ in range(2):
        answer = await client.post("/v1/lamps/red/refuse", headers=KEY)
        assert (answer.status_code, answer.json()) == (409, {"detail": "not today"})
    assert [await count(engine, table) for table in (lamps, events, idempotency_keys)] == [0, 0, 0]


async def test_a_route_that_streams_has_its_effect_once(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    first = await client.post("/v1/lamps/stream", content=b"red", headers=KEY)
    again = await client.post("/v1/lamps/stream", content=b"red", headers=KEY)
    assert (first.status_code, again.content) == (202, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert await count(engine, lamps) == 1
    failed = await client.post("/v1/lamps/stream", content=b"red", headers={"idempotency-key": "k-2"})
    assert failed.json()["code"] == "lamp-exists"
    assert await count(engine, idempotency_keys) == 1


async def test_without_a_key_every_post_is_its_own(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    for path in ("/v1/lamps", "/v1/lamps/stream"):
        assert (await client.post(path, json={"name": path[-1]})).is_success
    assert await count(engine, lamps) == 2
    assert await count(engine, idempotency_keys) == 0


async def test_what_has_no_effect_keeps_no_key(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    for content in (b"abc", b"de"):
        answer = await client.post("/v1/lamps/measure", content=content, headers=KEY)
        assert answer.json() == len(content)
    assert await count(engine, idempotency_keys) == 0


async def test_a_key_counts_in_its_project_alone(
    client: httpx2.AsyncClient, engine: AsyncEngine, key_folder: KeyFolder
) -> None:
    await client.post("/v1/lamps", json=RED, headers=KEY)
    other = key_folder.headers("lamps", project="other")
    answer = await client.post("/v1/lamps", json=RED, headers={**KEY, **other})
    assert "idempotent-replayed" not in answer.headers
    assert await count(engine, lamps) == 2


async def test_an_answer_is_shown_to_those_alone_who_may_ask(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    await client.post("/v1/lamps", json=RED, headers=KEY)
    viewer = key_folder.headers("lamps", role=Role.VIEWER)
    assert (await client.post("/v1/lamps", json=RED, headers={**KEY, **viewer})).status_code == 403


async def test_a_key_that_has_expired_is_as_good_as_new(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    await client.post("/v1/lamps", json=RED, headers=KEY)
    async with engine.begin() as connection:
        older = idempotency_keys.c.created_at - timedelta(hours=25)
        await connection.execute(sa.update(idempotency_keys).values(created_at=older))
    answer = await client.post("/v1/lamps", json=BLUE, headers=KEY)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


async def test_old_keys_are_forgotten(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    await client.post("/v1/lamps", json=RED, headers=KEY)
    assert await idempotency.purge(engine) == 0
    assert await idempotency.purge(engine, age=timedelta(0)) == 1
    assert await count(engine, idempotency_keys) == 0


async def test_all_old_keys_are_forgotten_however_many(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    for number in range(5):
        lamp = {**RED, "name": f"red-{number}"}
        assert (await client.post("/v1/lamps", json=lamp, headers={"idempotency-key": f"{number}"})).status_code < 300
    assert await idempotency.purge(engine, age=timedelta(0), limit=2) == 5
    assert await count(engine, idempotency_keys) == 0


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "caf\u00e9"])
async def test_a_key_is_a_short_line_of_ascii(client: httpx2.AsyncClient, key: str) -> None:
    answer = await client.post("/v1/lamps", json=RED, headers=httpx2.Headers([(b"idempotency-key", key.encode())]))
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency-key-invalid")


async def test_the_commit_comes_before_the_answer(app: Service, engine: AsyncEngine, key_folder: KeyFolder) -> None:
    """What cannot be committed is never promised, with a key and without one."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.text("""
            create function fail() returns trigger language plpgsql as $$ begin raise 'no commit'; end $$;
            create constraint trigger refuse after insert on lamps deferrable initially deferred
                for each row execute function fail()
            """)
        )
    try:
        async with client_of(app, key_folder.headers("lamps")) as client:
            for path, headers in (("/v1/lamps", {}), ("/v1/lamps", KEY), ("/v1/lamps/stream", KEY)):
                assert (await client.post(path, json=RED, headers=headers)).status_code == 500
    finally:
        async with engine.begin() as connection:
            await connection.execute(sa.text("drop function fail cascade"))
    assert [await count(engine, table) for table in (lamps, idempotency_keys)] == [0, 0]
