"""Projects and members on the wire."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.callers import Caller, Role
from kit.tables import audit
from kit.testing import KeyFolder

from .gateways import Door, Upstream, add_key, add_project, caller_of, says

NOUNS = ("datasets", "models", "deployments", "pipelines")


def refusal(answered: httpx2.Response, status: int) -> dict[str, Any]:
    assert answered.status_code == status, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answered.json()
    return found


def holds(upstream: Upstream, **counts: int) -> None:
    """What each service has in the project that is asked about."""
    for noun in NOUNS:
        upstream.replies[f"/v1/{noun}"] = says({"items": [{}] * counts.get(noun, 0), "next_page_token": None})


async def test_an_admin_makes_a_project_and_is_its_admin(door: Door, engine: AsyncEngine) -> None:
    async with door.client() as http:
        made = await http.post("/v1/projects", json={"name": "child"})
        assert (made.status_code, made.headers["location"]) == (201, "/v1/projects/child")
        assert made.json()["made_by"] == "blue"
        assert (await http.get("/v1/projects/child")).json() == made.json()
        listed = (await http.get("/v1/projects")).json()
        assert [it["name"] for it in listed["items"]] == ["blue", "child"]
        members = (await http.get("/v1/projects/child/members")).json()["items"]
        assert [(it["subject"], it["role"]) for it in members] == [("ada", "admin")]
        assert refusal(await http.post("/v1/projects", json={"name": "child"}), 409)["code"] == "project-exists"
    async with engine.connect() as connection:
        query = sa.select(audit.c.project, audit.c.action, audit.c.noun, audit.c.name)
        assert [tuple(row) for row in await connection.execute(query)] == [("blue", "create", "project", "child")]


async def test_a_project_is_made_once_by_one_idempotency_key(door: Door) -> None:
    headers = {"idempotency-key": "once"}
    async with door.client() as http:
        first = await http.post("/v1/projects", json={"name": "child"}, headers=headers)
        again = await http.post("/v1/projects", json={"name": "child"}, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.content == again.content
        assert again.headers["idempotent-replayed"] == "true"
        refused = await http.post("/v1/projects", json={"name": "other"}, headers=headers)
        assert refusal(refused, 422)["code"] == "idempotency-key-reused"
        long = {"idempotency-key": "x" * 300}
        assert (await http.post("/v1/projects", json={"name": "other"}, headers=long)).status_code == 400


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 64, "a.b", "a/b", "..", None, 5])
async def test_a_project_has_a_name_of_a_host(door: Door, name: object) -> None:
    async with door.client() as http:
        refused = refusal(await http.post("/v1/projects", json={"name": name}), 422)
    assert refused["errors"][0]["pointer"] == "#/name"


async def test_projects_come_in_pages(door: Door) -> None:
    async with door.client() as http:
        for name in ("c", "a", "d"):
            await http.post("/v1/projects", json={"name": name})
        first = (await http.get("/v1/projects", params={"page_size": 2})).json()
        assert [it["name"] for it in first["items"]] == ["a", "blue"]
        rest = (await http.get("/v1/projects", params={"page_token": first["next_page_token"]})).json()
        assert [it["name"] for it in rest["items"]] == ["c", "d"]
        assert rest["next_page_token"] is None


async def test_what_others_have_is_not_there(door: Door, engine: AsyncEngine) -> None:
    # The same name in two projects is not the same person: any admin can call a member as he likes.
    await add_project(engine, "green", ada=Role.ADMIN)
    async with door.client() as http:
        assert "green" not in (await http.get("/v1/projects")).text
        for answered in (
            await http.get("/v1/projects/green"),
            await http.get("/v1/projects/nowhere"),
            await http.delete("/v1/projects/green"),
            await http.get("/v1/projects/green/members"),
            await http.get("/v1/projects/green/members/ada"),
            await http.put("/v1/projects/green/members/eve", json={"role": "admin"}),
            await http.delete("/v1/projects/green/members/ada"),
        ):
            assert refusal(answered, 404)["code"] == "project-not-found"
        assert (await http.post("/v1/projects", json={"name": "child"})).status_code == 201
    for role in ("editor", "viewer"):
        async with door.client(role) as http:
            refusal(await http.get("/v1/projects/child"), 404)
            assert [it["name"] for it in (await http.get("/v1/projects")).json()["items"]] == ["blue"]


async def test_members_are_added_changed_and_removed(door: Door, engine: AsyncEngine) -> None:
    path = "/v1/projects/blue/members/max@example.org"
    async with door.client() as http:
        added = await http.put(path, json={"role": "viewer"})
        assert added.status_code == 201
        assert (await http.get(path)).headers["etag"] == added.headers["etag"]
        refusal(await http.put(path, json={"role": "admin"}), 428)
        stale = {"if-match": '"other"'}
        refusal(await http.put(path, json={"role": "admin"}, headers=stale), 412)
        changed = await http.put(path, json={"role": "admin"}, headers={"if-match": added.headers["etag"]})
        assert (changed.status_code, changed.json()["role"]) == (200, "admin")
        assert changed.headers["etag"] != added.headers["etag"]
        same = await http.put(path, json={"role": "admin"}, headers={"if-match": changed.headers["etag"]})
        assert (same.status_code, same.headers["etag"]) == (200, changed.headers["etag"])
        refusal(await http.delete(path, headers=stale), 412)
        assert (await http.delete(path, headers={"if-match": changed.headers["etag"]})).status_code == 204
        assert refusal(await http.delete(path), 404)["code"] == "member-not-found"
        refusal(await http.get(path), 404)
    async with engine.connect() as connection:
        rows = await connection.execute(sa.select(audit.c.action, audit.c.detail).order_by(audit.c.id))
        assert [(action, detail.get("role")) for action, detail in rows] == [
            ("add", "viewer"),
            ("change", "admin"),
            ("remove", None),
        ]


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("service:serving", {"role": "admin"}),
        ("-a", {"role": "admin"}),
        ("a" * 101, {"role": "admin"}),
        ("max", {"role": "root"}),
        ("max", {}),
        ("max", {"role": "admin", "more": 1}),
    ],
)
async def test_a_member_that_cannot_be_is_refused(door: Door, subject: str, body: Mapping[str, object]) -> None:
    async with door.client() as http:
        refusal(await http.put(f"/v1/projects/blue/members/{subject}", json=body), 422)


async def test_members_come_in_pages(door: Door) -> None:
    async with door.client("viewer") as http:
        first = (await http.get("/v1/projects/blue/members", params={"page_size": 2})).json()
        rest = (await http.get("/v1/projects/blue/members", params={"page_token": first["next_page_token"]})).json()
    assert [it["subject"] for it in first["items"] + rest["items"]] == ["ada", "eve", "vic"]


async def test_two_changes_of_one_member_at_once_do_not_hide_each_other(door: Door) -> None:
    path = "/v1/projects/blue/members/vic"
    async with door.client() as http:
        headers = {"if-match": (await http.get(path)).headers["etag"]}
        answers = await asyncio.gather(
            *[http.put(path, json={"role": role}, headers=headers) for role in ("editor", "admin") * 3]
        )
    assert sorted(it.status_code for it in answers) == [200] + [412] * 5


async def test_an_empty_project_is_deleted_with_its_keys(
    door: Door, engine: AsyncEngine, key_folder: KeyFolder
) -> None:
    holds(door.upstream)
    async with door.client() as http:
        await http.post("/v1/projects", json={"name": "child"})
        key = await add_key(engine, "child", "ada", Role.ADMIN)
        async with door.client(key) as theirs:
            assert (await theirs.get("/v1/whoami")).status_code == 200
            assert (await http.delete("/v1/projects/child")).status_code == 204
            refusal(await theirs.get("/v1/whoami"), 401)
        refusal(await http.get("/v1/projects/child"), 404)
        refusal(await http.delete("/v1/projects/child"), 404)
        assert refusal(await http.post("/v1/projects", json={"name": "child"}), 409)["code"] == "project-exists"
    asked = door.upstream.asked("/v1/datasets")[-1]
    assert asked["query_string"] == b"page_size=1"
    assert caller_of(asked, key_folder, "ingest") == Caller("child", Role.VIEWER, "ada", "gateway")


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_project_with_something_in_it_stays(door: Door, noun: str) -> None:
    holds(door.upstream, **{noun: 1})
    async with door.client() as http:
        await http.post("/v1/projects", json={"name": "child"})
        refused = refusal(await http.delete("/v1/projects/child"), 409)
        assert refused["code"] == "project-in-use"
        assert noun in refused["detail"]
        assert (await http.get("/v1/projects/child")).status_code == 200


async def test_a_project_of_which_nobody_knows_whether_it_is_empty_stays(door: Door) -> None:
    holds(door.upstream)
    door.upstream.replies["/v1/models"] = says({"status": 500}, 500)
    async with door.client() as http:
        await http.post("/v1/projects", json={"name": "child"})
        refused = await http.delete("/v1/projects/child")
        assert refusal(refused, 503)
        assert refused.headers["retry-after"]
        assert (await http.get("/v1/projects/child")).status_code == 200


async def test_the_first_project_stays(door: Door, engine: AsyncEngine) -> None:
    await add_project(engine, "default", ada=Role.ADMIN)
    async with door.client(await add_key(engine, "default")) as http:
        assert refusal(await http.delete("/v1/projects/default"), 409)["code"] == "project-permanent"
