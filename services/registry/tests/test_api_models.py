"""Models over HTTP."""

import asyncio
from typing import Any

import httpx2
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import holds
from kit.callers import Role
from registry.testing import Headers, Trainer, code_of

CREATED = {"name": "flight-delays", "description": "Which flights are late?"}


async def create(users: httpx2.AsyncClient, name: str, **more: Any) -> httpx2.Response:
    return await users.post("/v1/models", json={"name": name}, **more)


async def test_a_model_is_made_and_read(users: httpx2.AsyncClient) -> None:
    made = await users.post("/v1/models", json=CREATED)
    assert (made.status_code, made.headers["location"]) == (201, "/v1/models/flight-delays")
    read = await users.get(made.headers["location"])
    assert read.json() == made.json() == CREATED | {"created_at": made.json()["created_at"]}


async def test_a_name_is_taken_once(users: httpx2.AsyncClient) -> None:
    answers = [await create(users, "flight-delays") for _ in range(2)]
    assert code_of(answers[1]) == (409, "model-exists")


async def test_a_hundred_who_make_one_model_make_one(users: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(create(users, "flight-delays") for _ in range(100)))
    assert sorted(answer.status_code for answer in answers) == [201] + 99 * [409]


async def test_a_name_must_be_one(users: httpx2.AsyncClient) -> None:
    for name in ("", "A", "a/b", "a..b", "x" * 64, "a\n"):
        answer = await create(users, name)
        assert code_of(answer) == (422, "validation-failed")
        assert answer.json()["errors"][0]["pointer"] == "#/name"
    bodies: tuple[Any, ...] = (
        {},
        {"name": 1},
        {"name": "a", "more": 1},
        {"name": "a", "description": "x" * 5000},
        [],
        "a",
    )
    for body in bodies:
        assert code_of(await users.post("/v1/models", json=body)) == (422, "validation-failed")


async def test_a_key_makes_one_model_of_many_requests(users: httpx2.AsyncClient) -> None:
    key = {"idempotency-key": "k1"}
    first, again = [await create(users, "flight-delays", headers=key) for _ in range(2)]
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert code_of(await create(users, "other", headers=key)) == (422, "idempotency-key-reused")
    refused = [await create(users, "flight-delays", headers={"idempotency-key": "k2"}) for _ in range(2)]
    assert [code_of(answer) for answer in refused] == 2 * [(409, "model-exists")]


async def test_models_are_listed_in_pages(users: httpx2.AsyncClient) -> None:
    for name in ("c", "a", "b"):
        await create(users, name)
    page = (await users.get("/v1/models", params={"page_size": 2})).json()
    assert [model["name"] for model in page["items"]] == ["a", "b"]
    rest = (await users.get("/v1/models", params={"page_token": page["next_page_token"]})).json()
    assert ([model["name"] for model in rest["items"]], rest["next_page_token"]) == (["c"], None)
    answer = await users.get("/v1/models", params={"page_token": "%"})
    assert code_of(answer) == (422, "page-token-invalid")


async def test_a_model_goes_with_its_versions_and_its_numbers_are_not_given_again(
    users: httpx2.AsyncClient, trainer: Trainer
) -> None:
    await trainer.make(1, 2)
    assert (await users.delete("/v1/models/flight-delays")).status_code == 204
    for path in ("", "/versions", "/versions/1", "/versions/latest", "/aliases"):
        assert (await users.get(f"/v1/models/flight-delays{path}")).status_code == 404, path
    assert code_of(await users.delete("/v1/models/flight-delays")) == (404, "model-not-found")
    assert [version["version"] for version in await trainer.make(1, 3)] == [3, 4]


async def test_a_model_in_use_stays_whole(users: httpx2.AsyncClient, trainer: Trainer, engine: AsyncEngine) -> None:
    await trainer.make(1, 2, 3)
    async with engine.begin() as connection:
        await holds.place(connection, "demo", "model-version", "flight-delays@2", "deployment:flights")
    refused = await users.delete("/v1/models/flight-delays")
    assert code_of(refused) == (409, "model-in-use")
    assert refused.json()["used_by"] == ["deployment:flights"]
    assert len((await users.get("/v1/models/flight-delays/versions")).json()["items"]) == 3


async def test_what_cannot_be_a_name_is_not_found(users: httpx2.AsyncClient) -> None:
    for name in ("%00", "a%00", "A", "%ff", "..", "a%2Fb", "x" * 300, "%F0%9F%98%80", "a%0a"):
        for method in ("GET", "DELETE"):
            answer = await users.request(method, f"/v1/models/{name}")
            assert answer.status_code in (404, 405), (name, answer.text)


async def test_another_projects_models_are_not_there(
    users: httpx2.AsyncClient, trainer: Trainer, headers: Headers
) -> None:
    await trainer.make(1)
    assert (await users.put("/v1/models/flight-delays/aliases/champion", json={"version": 1})).status_code == 201
    users.headers.update(headers(project="red"))
    assert (await users.get("/v1/models")).json() == {"items": [], "next_page_token": None}
    model = "/v1/models/flight-delays"
    reads = ("", "/versions", "/versions/1", "/versions/1/lineage", "/versions/1/files/model.skops", "/aliases")
    for path in (*reads, "/versions/champion", "/aliases/champion", "/aliases/champion/history"):
        assert (await users.get(f"{model}{path}")).status_code == 404, path
    for path in ("", "/versions/1", "/aliases/champion"):
        assert (await users.delete(f"{model}{path}")).status_code == 404, path
    assert (await users.put(f"{model}/aliases/champion", json={"version": 1})).status_code == 404
    assert (await create(users, "flight-delays")).status_code == 201


async def test_a_viewer_reads_and_changes_nothing(
    users: httpx2.AsyncClient, trainer: Trainer, headers: Headers
) -> None:
    await trainer.make(1)
    users.headers.update(headers(role=Role.VIEWER))
    model = "/v1/models/flight-delays"
    for path in ("", "/versions", "/versions/1", "/versions/1/lineage", "/versions/1/files/model.skops", "/aliases"):
        assert (await users.get(f"{model}{path}")).status_code == 200, path
    writes = [
        await create(users, "other"),
        await users.delete(model),
        await users.delete(f"{model}/versions/1"),
        await users.put(f"{model}/aliases/champion", json={"version": 1}),
        await users.delete(f"{model}/aliases/champion"),
    ]
    assert [code_of(answer) for answer in writes] == 5 * [(403, "role-too-low")]
