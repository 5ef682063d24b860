"""What is held is not deleted, also when both happen at once."""

import asyncio

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import holds
from kit.testing import KeyFolder, eventually

from .lamps.app import lock_lamp
from .lamps.store.tables import lamps

RED = {"noun": "lamp", "ref": "red"}
HOLDS = "/internal/v1/holds"
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture(autouse=True)
async def red(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/v1/lamps", json={"name": "red"})).status_code == 201


async def is_blocked(engine: AsyncEngine) -> bool:
    async with engine.begin() as connection:
        return bool((await connection.execute(sa.text(WAITING))).scalar_one())


async def test_a_held_thing_is_not_deleted_until_all_let_go(client: httpx2.AsyncClient) -> None:
    for holder in ("job-2", "job-1", "job-1"):
        answer = await client.put(HOLDS, json={**RED, "holder": holder})
        assert (answer.status_code, answer.json()) == (200, {**RED, "holder": holder})
    refused = await client.delete("/v1/lamps/red")
    assert (refused.status_code, refused.json()["holders"]) == (409, ["job-1", "job-2"])
    for holder in ("job-1", "job-2", "job-2"):
        assert (await client.delete(HOLDS, params={**RED, "holder": holder})).status_code == 204
    assert (await client.delete("/v1/lamps/red")).status_code == 204


async def test_what_is_not_there_cannot_be_held(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    for noun, ref in (("lamp", "blue"), ("chair", "red")):
        body = {"noun": noun, "ref": ref, "holder": "j"}
        assert (await client.put(HOLDS, json=body)).json()["code"] == "lamp-not-found"
    other = key_folder.headers("lamps", project="other")
    assert (await client.put(HOLDS, json={**RED, "holder": "j"}, headers=other)).status_code == 404


async def test_another_projects_hold_is_not_touched(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    await client.put(HOLDS, json={**RED, "holder": "j"})
    other = key_folder.headers("lamps", project="other")
    assert (await client.delete(HOLDS, params={**RED, "holder": "j"}, headers=other)).status_code == 204
    assert (await client.delete("/v1/lamps/red")).status_code == 409


@pytest.mark.parametrize("body", [{}, {**RED, "holder": ""}, {**RED, "holder": "j", "more": 1}, {**RED, "holder": 1}])
async def test_a_hold_says_what_and_who(client: httpx2.AsyncClient, body: dict[str, object]) -> None:
    assert (await client.put(HOLDS, json=body)).status_code == 422


async def test_a_delete_waits_for_the_hold_that_came_first(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    async with engine.begin() as holding:
        await lock_lamp(holding, "demo", "red")
        deleting = asyncio.create_task(client.delete("/v1/lamps/red"))
        await eventually(lambda: is_blocked(engine))
        await holds.place(holding, "demo", "lamp", "red", "job-1")
    assert (await deleting).status_code == 409


async def test_a_hold_waits_for_the_delete_that_came_first(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    async with engine.begin() as deleting:
        await lock_lamp(deleting, "demo", "red")
        holding = asyncio.create_task(client.put(HOLDS, json={**RED, "holder": "job-1"}))
        await eventually(lambda: is_blocked(engine))
        assert not await holds.is_held(deleting, "demo", "lamp", "red")
        await deleting.execute(sa.delete(lamps))
    assert (await holding).status_code == 404
