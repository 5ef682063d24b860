"""Who the caller is, how the services are, and who did what."""

import base64
import json
import uuid
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import Receive, Scope, Send

from gateway.settings import SERVICES
from kit import errors
from kit.callers import Role
from kit.testing import DatabaseUrl, KeyFolder
from kit.tokens import Verifier, load_verifier

from .gateways import NOWHERE, Door, Upstream, answer, client, gateway_at_work, says, settings_of

AT = "2026-11-25T00:00:00Z"


def row(number: int) -> dict[str, Any]:
    """A row of an audit, of the millisecond `number`."""
    return {
        "id": str(uuid.UUID(int=(1_700_000_000_000 + number) << 80 | 7 << 76 | 0b10 << 62)),
        "subject": "ada",
        "issuer": "gateway",
        "action": "create",
        "noun": "thing",
        "name": f"{number}",
        "detail": {},
        "request_id": None,
        "created_at": AT,
    }


class Ledgers:
    """The audit rows of all services, told apart by the audience of the token that comes along."""

    def __init__(self, key_folder: KeyFolder) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {service: [] for service in SERVICES}
        self.asked: list[tuple[str, str]] = []
        self._verifiers: dict[str, Verifier] = {it: load_verifier(key_folder.public, it) for it in SERVICES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
        service = next(it for it in SERVICES if self._is_for(it, token))
        query = dict(pair.split("=") for pair in scope["query_string"].decode().split("&"))
        self.asked.append((service, query["page_size"]))
        rows = sorted(self.rows[service], key=lambda it: str(it["id"]), reverse=True)
        if "page_token" in query:
            rows = [it for it in rows if str(it["id"]) < _key_of(query["page_token"])]
        shown = rows[: int(query["page_size"])]
        await answer(send, json.dumps({"items": shown, "next_page_token": None}).encode())

    def _is_for(self, service: str, token: str) -> bool:
        try:
            return self._verifiers[service].verify(token).role is Role.ADMIN
        except errors.Unauthenticated:
            return False


def _key_of(token: str) -> str:
    """What kit.paging reads in a token."""
    return base64.urlsafe_b64decode(unquote(token) + "=" * (-len(unquote(token)) % 4)).decode()[1:]


@pytest.fixture
def ledgers(upstream: Upstream, key_folder: KeyFolder) -> Ledgers:
    it = Ledgers(key_folder)
    upstream.replies["/internal/v1/audit"] = it
    return it


async def test_a_caller_learns_who_it_is(door: Door) -> None:
    async with door.client("editor") as http:
        who = (await http.get("/v1/whoami")).json()
    assert (who["project"], who["subject"], who["role"]) == ("blue", "eve", "editor")
    assert who["scopes"] == ["predict", "read", "write"]
    assert who["expires_at"] is not None
    assert who["key_id"] in door.keys["editor"]


async def test_every_service_says_how_it_is(door: Door) -> None:
    door.upstream.replies["/readyz"] = says({"ready": False, "models": "loading"}, 503)
    async with door.client("viewer") as http:
        found = (await http.get("/v1/status")).json()["services"]
    assert set(found) == {*SERVICES, "gateway"}
    assert found["serving"] == {"ready": False, "models": "loading"}
    assert found["gateway"] == {"ready": True, "keys_current": True}


async def test_a_service_that_says_nothing_or_nonsense_is_not_ready(door: Door) -> None:
    door.upstream.replies["/readyz"] = says([1])
    async with door.client() as http:
        assert (await http.get("/v1/status")).json()["services"]["ingest"]["reason"] == "not understood"

        async def html(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(send, b"<html>", 502)

        door.upstream.replies["/readyz"] = html
        assert (await http.get("/v1/status")).json()["services"]["ingest"]["reason"] == "not answering"


async def test_services_that_are_away_are_not_ready(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> None:
    async with (
        gateway_at_work(settings_of(database_url("gateway"), key_folder, NOWHERE)) as port,
        client(port, blue["viewer"]) as http,
    ):
        found = (await http.get("/v1/status")).json()["services"]
        assert [found[it]["ready"] for it in SERVICES] == [False] * 5
        assert found["gateway"]["ready"]


async def test_the_rows_of_all_services_come_in_one_order(door: Door, ledgers: Ledgers) -> None:
    written = []
    for number in range(12):
        entry = row(number)
        ledgers.rows[SERVICES[number % 5]].append(entry)
        written.append((SERVICES[number % 5], entry["name"]))
    async with door.client() as http:
        await http.post("/v1/projects", json={"name": "child"})
        written.append(("gateway", "child"))
        seen: list[tuple[str, str]] = []
        token: str | None = None
        while True:
            params = {"page_size": "4"} | ({"page_token": token} if token else {})
            page = (await http.get("/v1/audit", params=params)).json()
            assert len(page["items"]) <= 4
            seen += [(it["service"], it["name"]) for it in page["items"]]
            token = page["next_page_token"]
            if token is None:
                break
    assert seen == written[::-1]
    assert {service for service, _ in ledgers.asked} == set(SERVICES)  # each under a token of its own, as admin


async def test_a_page_of_the_audit_is_as_long_as_services_give(door: Door, ledgers: Ledgers) -> None:
    ledgers.rows["ingest"] = [row(number) for number in range(1000)]
    async with door.client() as http:
        page = (await http.get("/v1/audit", params={"page_size": 1000})).json()
        assert len(page["items"]) == 999
        rest = (await http.get("/v1/audit", params={"page_token": page["next_page_token"]})).json()
        assert [it["name"] for it in rest["items"]] == ["0"]
    assert {size for _, size in ledgers.asked} == {"1000", "101"}


async def test_an_audit_without_one_of_the_services_is_none(door: Door, ledgers: Ledgers) -> None:
    door.upstream.replies["/internal/v1/audit"] = says({}, 500)
    async with door.client() as http:
        refused = await http.get("/v1/audit")
        assert (refused.status_code, refused.json()["code"]) == (503, "service-unavailable")
        assert refused.headers["retry-after"]
        door.upstream.replies["/internal/v1/audit"] = says({"items": None})
        assert (await http.get("/v1/audit")).status_code == 503


@pytest.mark.parametrize("token", ["x", "MWFiYw"])
async def test_a_token_of_another_list_is_refused(door: Door, ledgers: Ledgers, token: str) -> None:
    async with door.client() as http:
        assert (await http.get("/v1/audit", params={"page_token": token})).status_code == 422


async def test_only_admins_read_the_audit(door: Door, ledgers: Ledgers) -> None:
    for role in ("editor", "viewer"):
        async with door.client(role) as http:
            assert (await http.get("/v1/audit")).status_code == 403
    assert ledgers.asked == []
