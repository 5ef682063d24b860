"""Who did what: one row for every effect, and none for what had none."""

import httpx2

from kit.callers import Role
from kit.testing import KeyFolder

AUDIT = "/internal/v1/audit"


async def test_an_effect_is_noted_with_its_request(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    await client.post("/v1/lamps", json={"name": "red"}, headers={"x-request-id": "r-1"})
    assert (await client.post("/v1/lamps", json={"name": "red"})).status_code == 409
    admin = key_folder.headers("lamps", role=Role.ADMIN)
    (entry,) = (await client.get(AUDIT, headers=admin)).json()["items"]
    assert {name: entry[name] for name in ("subject", "issuer", "action", "noun", "name", "detail", "request_id")} == {
        "subject": "ada",
        "issuer": "gateway",
        "action": "make",
        "noun": "lamp",
        "name": "red",
        "detail": {},
        "request_id": "r-1",
    }


async def test_entries_come_in_pages_the_newest_first(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await client.post("/v1/lamps", json={"name": name})
    admin = key_folder.headers("lamps", role=Role.ADMIN)
    first = (await client.get(AUDIT, params={"page_size": "2"}, headers=admin)).json()
    rest = (await client.get(AUDIT, params={"page_token": first["next_page_token"]}, headers=admin)).json()
    assert [entry["name"] for entry in first["items"] + rest["items"]] == ["c", "b", "a"]
    assert rest["next_page_token"] is None


async def test_a_token_of_another_list_is_refused(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    for name in ("a", "b"):
        await client.post("/v1/lamps", json={"name": name})
    other = (await client.get("/v1/lamps", params={"page_size": "1"})).json()["next_page_token"]
    admin = key_folder.headers("lamps", role=Role.ADMIN)
    answer = await client.get(AUDIT, params={"page_token": other}, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (422, "entry-id-invalid")


async def test_entries_are_for_admins_of_the_project_who_come_by_the_gateway(
    client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    await client.post("/v1/lamps", json={"name": "red"})
    assert (await client.get(AUDIT)).status_code == 403
    others = key_folder.headers("lamps", role=Role.ADMIN, project="other")
    assert (await client.get(AUDIT, headers=others)).json()["items"] == []
    neighbour = key_folder.headers("lamps", role=Role.ADMIN, issuer="trainer")
    assert (await client.get(AUDIT, headers=neighbour)).status_code == 404
