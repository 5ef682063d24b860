"""Aliases over HTTP: compare-and-set, and a ledger."""

import asyncio
from collections import Counter
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import tables
from kit.callers import Role
from registry.testing import Headers, Trainer, code_of

ALIASES = "/v1/models/flight-delays/aliases"
CHAMPION = f"{ALIASES}/champion"
STALE = '"0123456789abcdef0123456789abcdef"'


@pytest.fixture(autouse=True)
async def versions(trainer: Trainer) -> list[dict[str, Any]]:
    return await trainer.make(1, 2, 3)


async def put(
    users: httpx2.AsyncClient, version: Any, etag: str | None = None, path: str = CHAMPION
) -> httpx2.Response:
    headers = {} if etag is None else {"if-match": etag}
    return await users.put(path, json={"version": version}, headers=headers)


async def moved(engine: AsyncEngine) -> int:
    query = sa.select(sa.func.count()).where(tables.events.c.kind == "model.alias.moved")
    async with engine.begin() as connection:
        return int((await connection.execute(query)).scalar_one())


async def test_an_alias_is_made_moved_and_read(users: httpx2.AsyncClient, versions: list[dict[str, Any]]) -> None:
    made = await put(users, 1)
    again = await put(users, 2, made.headers["etag"])
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.headers["etag"] != again.headers["etag"]
    read = await users.get(CHAMPION)
    assert (read.json(), read.headers["etag"]) == (again.json(), again.headers["etag"])
    assert read.json() == {
        "model": "flight-delays",
        "alias": "champion",
        "version": 2,
        "digest": versions[1]["digest"],
        "updated_at": again.json()["updated_at"],
    }
    assert (await users.get("/v1/models/flight-delays/versions/champion")).json() == versions[1]


async def test_an_existing_alias_is_not_moved_unseen(users: httpx2.AsyncClient) -> None:
    etag = (await put(users, 1)).headers["etag"]
    for version in (1, 2):
        refused = await put(users, version)
        assert code_of(refused) == (428, "if-match-missing")
        assert refused.json()["etag"] == etag
    for given in (STALE, etag.strip('"'), f"W/{etag}", '""', "x"):
        assert code_of(await put(users, 2, given)) == (412, "changed")
    assert (await users.get(CHAMPION)).json()["version"] == 1
    assert (await put(users, 2, "*")).status_code == 200


async def test_to_and_fro_does_not_make_a_stale_look_fresh(users: httpx2.AsyncClient) -> None:
    first = (await put(users, 1)).headers["etag"]
    second = (await put(users, 2, first)).headers["etag"]
    assert (await put(users, 1, second)).status_code == 200
    assert code_of(await put(users, 3, first)) == (412, "changed")
    await users.delete(CHAMPION)
    assert code_of(await put(users, 3, first)) == (412, "changed")
    await put(users, 1)
    assert code_of(await put(users, 3, first)) == (412, "changed")


async def test_create_only_creates(users: httpx2.AsyncClient) -> None:
    only = {"if-none-match": "*"}
    answers = [await users.put(CHAMPION, json={"version": 1}, headers=only) for _ in range(2)]
    assert answers[0].status_code == 201
    assert code_of(answers[1]) == (412, "changed")


async def test_what_changes_nothing_is_no_event(users: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    made = await put(users, 1)
    same = await put(users, 1, made.headers["etag"])
    assert (same.status_code, same.headers["etag"], same.json()) == (200, made.headers["etag"], made.json())
    assert await moved(engine) == 1
    assert len((await users.get(f"{CHAMPION}/history")).json()["items"]) == 1


async def test_twenty_who_saw_the_same_move_it_once(users: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    etag = (await put(users, 1)).headers["etag"]
    for _ in range(3):
        answers = await asyncio.gather(*(put(users, 2 + n % 2, etag) for n in range(20)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 19}
        [winner] = [answer for answer in answers if answer.status_code == 200]
        assert (await users.get(CHAMPION)).json() == winner.json()
        etag = (await put(users, 1, winner.headers["etag"])).headers["etag"]
    assert await moved(engine) == 7


async def test_twenty_who_make_it_make_it_once(users: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(put(users, 1 + n % 3) for n in range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 428: 19}


@pytest.mark.parametrize("name", ["latest", "1", "007", "Champion", "a.b", "a_b", "-a", "x" * 64, "a%00", "sha256:ab"])
async def test_a_name_that_could_be_read_otherwise_is_none(users: httpx2.AsyncClient, name: str) -> None:
    assert code_of(await put(users, 1, path=f"{ALIASES}/{name}")) == (422, "validation-failed")
    for path in (name, f"{name}/history"):
        assert code_of(await users.get(f"{ALIASES}/{path}")) == (404, "alias-not-found")
    assert code_of(await users.delete(f"{ALIASES}/{name}")) == (404, "alias-not-found")


async def test_the_version_must_be_there(users: httpx2.AsyncClient) -> None:
    missing = await put(users, 4)
    assert code_of(missing) == (422, "alias-target-unknown")
    assert missing.json()["errors"][0]["pointer"] == "#/version"
    for wrong in (0, -1, "1", 1.5, True, None, 10**9, 10**30):
        assert code_of(await put(users, wrong)) == (422, "validation-failed")
    assert code_of(await users.get(CHAMPION)) == (404, "alias-not-found")
    assert code_of(await put(users, 1, path="/v1/models/other/aliases/champion")) == (404, "model-not-found")


async def test_an_alias_is_deleted_as_it_was_seen(users: httpx2.AsyncClient) -> None:
    etag = (await put(users, 1)).headers["etag"]
    assert code_of(await users.delete(CHAMPION, headers={"if-match": STALE})) == (412, "changed")
    assert (await users.delete(CHAMPION, headers={"if-match": etag})).status_code == 204
    assert code_of(await users.delete(CHAMPION)) == (404, "alias-not-found")


async def test_a_version_with_an_alias_stays(users: httpx2.AsyncClient) -> None:
    for alias in ("champion", "shadow"):
        await put(users, 2, path=f"{ALIASES}/{alias}")
    refused = await users.delete("/v1/models/flight-delays/versions/2")
    assert code_of(refused) == (409, "version-in-use")
    assert refused.json()["used_by"] == ["alias champion", "alias shadow"]
    assert "alias champion, alias shadow" in refused.json()["detail"]
    for alias in ("champion", "shadow"):
        await users.delete(f"{ALIASES}/{alias}")
    assert (await users.delete("/v1/models/flight-delays/versions/2")).status_code == 204


async def test_aliases_are_listed_in_pages(users: httpx2.AsyncClient) -> None:
    for name in ("c", "a", "b"):
        await put(users, 1, path=f"{ALIASES}/{name}")
    page = (await users.get(ALIASES, params={"page_size": 2})).json()
    assert [alias["alias"] for alias in page["items"]] == ["a", "b"]
    rest = (await users.get(ALIASES, params={"page_token": page["next_page_token"]})).json()
    assert ([alias["alias"] for alias in rest["items"]], rest["next_page_token"]) == (["c"], None)


async def test_the_history_says_who_moved_it_when_and_whereto(
    users: httpx2.AsyncClient, versions: list[dict[str, Any]], headers: Headers
) -> None:
    made = await put(users, 1)
    users.headers.update(headers(subject="bob", issuer="pipelines"))
    await put(users, 2, made.headers["etag"])
    await users.delete(CHAMPION)
    one, two = ({"version": each["version"], "digest": each["digest"]} for each in versions[:2])
    lines = (await users.get(f"{CHAMPION}/history")).json()["items"]
    assert [(line["from"], line["to"]) for line in lines] == [(two, None), (one, two), (None, one)]
    assert [(line["subject"], line["issuer"]) for line in lines] == [
        ("bob", "pipelines"),
        ("bob", "pipelines"),
        ("ada", "gateway"),
    ]
    assert [line["at"] for line in lines] == sorted((line["at"] for line in lines), reverse=True)
    assert lines[2]["request_id"] == made.headers["x-request-id"]


async def test_the_history_outlives_the_model_and_is_read_in_pages(users: httpx2.AsyncClient, headers: Headers) -> None:
    etag = (await put(users, 1)).headers["etag"]
    await put(users, 2, etag)
    await users.delete(CHAMPION)
    assert (await users.delete("/v1/models/flight-delays")).status_code == 204
    targets: list[Any] = []
    token: str | None = None
    while True:
        params = {"page_size": "1"} | ({} if token is None else {"page_token": token})
        page = (await users.get(f"{CHAMPION}/history", params=params)).json()
        targets += [line["to"] and line["to"]["version"] for line in page["items"]]
        if (token := page["next_page_token"]) is None:
            break
    assert targets == [None, 2, 1]
    assert code_of(await users.get(f"{ALIASES}/shadow/history")) == (404, "alias-not-found")
    users.headers.update(headers(project="red", role=Role.ADMIN))
    assert code_of(await users.get(f"{CHAMPION}/history")) == (404, "alias-not-found")
