"""Keys on the wire: made once, shown once, revoked at once, and never more than their owner."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.domain.keys import read_key
from gateway.store.projects import ProjectStore
from kit.callers import Role
from kit.tables import audit, idempotency_keys
from kit.testing import eventually

from .gateways import Door, add_key, add_project, says


async def create(http: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answered = await http.post("/v1/keys", json={"name": "a key", **body})
    assert answered.status_code == 201, answered.text
    found: dict[str, Any] = answered.json()
    return found


def refusal(answered: httpx2.Response, status: int) -> dict[str, Any]:
    assert answered.status_code == status, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answered.json()
    return found


async def test_a_key_is_shown_once_and_works_at_once(door: Door) -> None:
    async with door.client() as http:
        answered = await http.post("/v1/keys", json={"name": "laptop"})
        made = answered.json()
        assert answered.status_code == 201
        assert answered.headers["location"] == f"/v1/keys/{made['id']}"
        assert answered.headers["cache-control"] == "no-store"
        assert (made["role"], made["scopes"], made["subject"]) == ("viewer", ["predict", "read"], "ada")
        lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
        assert abs(lasts - timedelta(days=90)) < timedelta(seconds=1)
        assert made["revoked_at"] is None
        got = (await http.get(answered.headers["location"])).json()
        assert got == {name: value for name, value in made.items() if name != "key"}
        listed = (await http.get("/v1/keys")).text
        assert made["id"] in listed
        assert made["key"] not in listed
    async with door.client(made["key"]) as http:
        who = (await http.get("/v1/whoami")).json()
        assert (who["project"], who["subject"], who["role"], who["key_id"]) == ("blue", "ada", "viewer", made["id"])


async def test_a_revoked_key_opens_nothing_at_once(door: Door) -> None:
    async with door.client() as http:
        made = await create(http)
        async with door.client(made["key"]) as theirs:
            assert (await theirs.get("/v1/models")).status_code == 200
            for _ in range(2):
                assert (await http.delete(f"/v1/keys/{made['id']}")).status_code == 204
            refusal(await theirs.get("/v1/models"), 401)
            refusal(await theirs.post("/v1/deployments/a/predict", json={}), 401)
        assert (await http.get(f"/v1/keys/{made['id']}")).json()["revoked_at"] is not None


async def test_a_revocation_is_not_answered_before_it_is_true(door: Door) -> None:
    """Again and again: the NOTIFY of the revocation would often be in time by luck."""
    async with door.client() as http:
        for _ in range(15):
            made = await create(http)
            async with door.client(made["key"]) as theirs:
                assert (await theirs.get("/v1/whoami")).status_code == 200
                await http.delete(f"/v1/keys/{made['id']}")
                assert (await theirs.get("/v1/whoami")).status_code == 401


async def test_another_replica_learns_it_within_seconds(door: Door, engine: AsyncEngine) -> None:
    text = await add_key(engine)  # by somebody else, with this gateway's own NOTIFY
    key = read_key(text)
    assert key is not None
    async with door.client(text) as theirs:
        assert (await theirs.get("/v1/models")).status_code == 200
        async with engine.begin() as connection:
            await connection.execute(sa.text("update api_keys set revoked_at = now() where id = :id"), {"id": key.id})
        # No NOTIFY at all: the poll is the guarantee.

        async def refused() -> bool:
            return (await theirs.get("/v1/models")).status_code == 401

        await eventually(refused, timedelta(seconds=5))


async def test_a_key_that_has_ended_opens_nothing(door: Door, engine: AsyncEngine) -> None:
    text = await add_key(engine, lasts=timedelta(seconds=1))
    async with door.client(text) as theirs:
        await theirs.get("/v1/models")

        async def ended() -> bool:
            return (await theirs.get("/v1/models")).status_code == 401

        await eventually(ended, timedelta(seconds=5))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"role": "admin", "subject": "eve"}, "#/role"),
        ({"subject": "nobody"}, "#/subject"),
        ({"subject": "service:serving"}, "#/subject"),
        ({"scopes": ["write"]}, "#/scopes/0"),
        ({"scopes": []}, "#/scopes"),
        ({"scopes": ["everything"]}, "#/scopes/0"),
        ({"role": "root"}, "#/role"),
        ({"expires_in_days": 0}, "#/expires_in_days"),
        ({"expires_in_days": 3651}, "#/expires_in_days"),
        ({"expires_in_days": 10**30}, "#/expires_in_days"),
        ({"expires_in_days": True}, "#/expires_in_days"),
        ({"expires_in_days": 1.5}, "#/expires_in_days"),
        ({"name": ""}, "#/name"),
        ({"name": "a\nb"}, "#/name"),
        ({"name": None}, "#/name"),
        ({"project": "No"}, "#/project"),
        ({"secret": "mine"}, "#/secret"),
    ],
)
async def test_what_a_key_cannot_be_is_refused_where_it_stands(door: Door, body: dict[str, Any], pointer: str) -> None:
    async with door.client() as http:
        before = (await http.get("/v1/keys")).json()
        refused = refusal(await http.post("/v1/keys", json={"name": "a key", **body}), 422)
        assert [place["pointer"] for place in refused["errors"]] == [pointer]
        assert (await http.get("/v1/keys")).json() == before


@pytest.mark.parametrize(
    "body", [b"{", b'{"name": NaN}', b'{"name": "a", "name": "b"}', b'{"name": "\\u0000"}', b"[1]"]
)
async def test_what_is_no_json_is_refused(door: Door, body: bytes) -> None:
    async with door.client() as http:
        answered = await http.post("/v1/keys", content=body, headers={"content-type": "application/json"})
        assert answered.status_code in (400, 422)
        assert answered.headers["content-type"] == "application/problem+json"


async def test_a_key_does_what_its_scopes_let_it_do(door: Door) -> None:
    async with door.client() as http:
        made = await create(http, role="editor", scopes=["predict"], subject="eve", expires_in_days=1)
    assert made["scopes"] == ["predict"]
    async with door.client(made["key"]) as theirs:
        assert (await theirs.get("/v1/whoami")).json()["role"] == "viewer"
        assert (await theirs.post("/v1/deployments/a/predict", json={})).status_code == 200
        assert refusal(await theirs.get("/v1/models"), 403)["code"] == "scope-missing"
        refusal(await theirs.post("/v1/jobs", json={}), 403)


async def test_a_key_is_less_when_its_owner_is_less(door: Door, engine: AsyncEngine) -> None:
    async with door.client("editor") as theirs, door.client() as http:
        assert (await theirs.get("/v1/whoami")).json()["role"] == "editor"
        member = await http.get("/v1/projects/blue/members/eve")
        headers = {"if-match": member.headers["etag"]}
        changed = await http.put("/v1/projects/blue/members/eve", json={"role": "viewer"}, headers=headers)
        assert changed.status_code == 200
        assert (await theirs.get("/v1/whoami")).json()["role"] == "viewer"
        assert (await http.delete("/v1/projects/blue/members/eve")).status_code == 204
        refusal(await theirs.get("/v1/whoami"), 401)


async def test_a_key_of_another_project_is_not_there(door: Door, engine: AsyncEngine) -> None:
    await add_project(engine, "green", ada=Role.ADMIN)
    text = await add_key(engine, "green", "ada", Role.ADMIN)
    key = read_key(text)
    assert key is not None
    async with door.client() as http:
        refusal(await http.get(f"/v1/keys/{key.id}"), 404)
        refusal(await http.delete(f"/v1/keys/{key.id}"), 404)
        refusal(await http.post("/v1/keys", json={"name": "mine", "project": "green"}), 404)
        assert key.id not in (await http.get("/v1/keys")).text
    async with door.client(text) as theirs:
        assert (await theirs.get("/v1/whoami")).status_code == 200


async def test_an_admin_makes_the_first_key_of_a_project_that_was_made(door: Door, engine: AsyncEngine) -> None:
    async with door.client() as http:
        assert (await http.post("/v1/projects", json={"name": "child"})).status_code == 201
        answered = await http.post("/v1/keys", json={"name": "first", "role": "admin", "project": "child"})
        made = answered.json()
        assert answered.status_code == 201
        assert "location" not in answered.headers  # it is not among the keys of this project
        assert made["project"] == "child"
    async with door.client(made["key"]) as theirs:
        assert (await theirs.get("/v1/whoami")).json()["project"] == "child"
        refusal(await theirs.post("/v1/keys", json={"name": "back", "project": "blue"}), 404)
    async with engine.connect() as connection:
        rows = await connection.execute(sa.select(audit.c.project, audit.c.name).where(audit.c.noun == "key"))
        assert ("child", made["id"]) in [tuple(row) for row in rows]


async def test_a_project_has_so_many_keys_and_no_more(door: Door, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            sa.text(
                "insert into api_keys (id, project, name, subject, role, scopes, digest, expires_at)"
                " select 'k' || n, 'blue', 'n', 'ada', 'viewer', '{read}', decode(repeat('00', 32), 'hex'),"
                " now() + interval '1 day' from generate_series(1, 997) n"
            )
        )
    async with door.client() as http:
        assert refusal(await http.post("/v1/keys", json={"name": "more"}), 409)["code"] == "too-many-keys"
        assert (await http.delete("/v1/keys/k1")).status_code == 204
        await create(http)


async def test_a_key_asked_for_twice_is_made_once_and_is_not_readable_in_between(
    door: Door, engine: AsyncEngine
) -> None:
    headers = {"idempotency-key": "once"}
    async with door.client() as http:
        first = await http.post("/v1/keys", json={"name": "a key"}, headers=headers)
        again = await http.post("/v1/keys", json={"name": "a key"}, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.content == again.content
        assert again.headers["idempotent-replayed"] == "true"
        assert first.headers["location"] == again.headers["location"]
        refused = refusal(await http.post("/v1/keys", json={"name": "other"}, headers=headers), 422)
        assert refused["code"] == "idempotency-key-reused"
        assert len((await http.get("/v1/keys")).json()["items"]) == 4
    key = read_key(first.json()["key"])
    assert key is not None
    async with engine.connect() as connection:
        stored = (await connection.execute(sa.select(idempotency_keys.c.body))).scalar_one()
        assert key.secret.encode() not in stored
        assert b"expires_at" not in stored


async def test_another_admin_cannot_read_the_answer(door: Door, engine: AsyncEngine) -> None:
    headers = {"idempotency-key": "once"}
    async with door.client() as http:
        await http.post("/v1/keys", json={"name": "a key", "subject": "ada"}, headers=headers)
    async with door.client(await add_key(engine)) as http:
        refused = await http.post("/v1/keys", json={"name": "a key", "subject": "ada"}, headers=headers)
        assert refusal(refused, 422)["code"] == "sealed-for-another"


async def test_many_at_once_with_one_idempotency_key_make_one(door: Door) -> None:
    headers = {"idempotency-key": "once"}
    async with door.client() as http:
        answers = await asyncio.gather(
            *[http.post("/v1/keys", json={"name": "a key"}, headers=headers) for _ in range(10)]
        )
        assert {it.status_code for it in answers} <= {201, 409}
        assert len({it.content for it in answers if it.status_code == 201}) == 1
        assert len((await http.get("/v1/keys")).json()["items"]) == 4


async def test_keys_come_in_pages(door: Door) -> None:
    async with door.client() as http:
        made = [(await create(http))["id"] for _ in range(3)]
        seen: list[str] = []
        token: str | None = None
        while True:
            params = {"page_size": "2"} | ({"page_token": token} if token else {})
            page = (await http.get("/v1/keys", params=params)).json()
            seen += [it["id"] for it in page["items"]]
            token = page["next_page_token"]
            if token is None:
                break
        assert seen[3:] == made
        assert len(seen) == len(set(seen)) == 6
        for wrong in ("x", "MTIz", "MWE"):
            refusal(await http.get("/v1/keys", params={"page_token": wrong}), 422)


async def test_making_and_revoking_is_written_down(door: Door) -> None:
    async with door.client() as http:
        made = await create(http)
        for _ in range(2):
            await http.delete(f"/v1/keys/{made['id']}")
        door.upstream.replies["/internal/v1/audit"] = says({"items": [], "next_page_token": None})
        entries = (await http.get("/v1/audit")).json()["items"]
    assert [(it["action"], it["noun"], it["name"], it["subject"]) for it in entries] == [
        ("revoke", "key", made["id"], "ada"),
        ("create", "key", made["id"], "ada"),
    ]
    assert made["key"] not in str(entries)


async def test_a_key_in_the_wrong_place_is_no_key(door: Door) -> None:
    key = door.keys["admin"]
    async with door.client(None) as http:
        for headers in (
            {},
            {"authorization": key},
            {"authorization": f"Basic {key}"},
            {"authorization": f"Bearer {key}x"},
            {"authorization": "Bearer é"},
            {"x-api-key": key},
            {"cookie": f"authorization=Bearer {key}"},
        ):
            refused = await http.get(
                "/v1/models", headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            )
            assert refusal(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        refusal(await http.get(f"/v1/models?api_key={key}"), 401)
        twice = [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")]
        refusal(await http.get("/v1/models", headers=twice), 401)
        assert (await http.get("/v1/whoami", headers={"authorization": f"bearer {key}"})).status_code == 200


async def test_the_last_admin_cannot_leave(door: Door, engine: AsyncEngine) -> None:
    async with door.client() as http:
        assert refusal(await http.delete("/v1/projects/blue/members/ada"), 409)["code"] == "last-admin"
    async with engine.begin() as connection:
        await ProjectStore(connection).put_member("blue", "eve", Role.ADMIN)
    async with door.client() as http:
        assert (await http.delete("/v1/projects/blue/members/ada")).status_code == 204
        refusal(await http.get("/v1/whoami"), 401)
