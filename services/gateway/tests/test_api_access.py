"""All routes, verbs and roles: nobody without a key, nobody beyond their role, nothing beside /v1 and /v2."""

import itertools

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.app import create_app
from gateway.domain.access import Scope
from gateway.domain.requests import operation_of
from gateway.settings import Settings
from kit.app import Service
from kit.callers import Role
from kit.routes import VERBS
from kit.server import listen
from kit.testing import DatabaseUrl, KeyFolder, eventually, undeclared, unguarded

from .gateways import Door, add_key, bearer, client, gateway_at_work, says, settings_of

OPEN = {"/livez", "/readyz", "/openapi.json", "/docs", "/docs/{name}"}
BY_LINK = "/v1/objects/"
"""What is under it is opened by the signature in its path, whoever comes; a bad one is told from an absent key."""
NOWHERE = ("/metrics", "/internal/v1/events", "/internal/v1/audit", "/", "/v1", "/v1/", "/v3/x", "/v1/nowhere")
ROLES = {"viewer": Role.VIEWER, "editor": Role.EDITOR, "admin": Role.ADMIN}


@pytest.fixture
def app(settings: Settings) -> Service:
    return create_app(settings)


def concrete(path: str) -> str:
    return path.replace(":path}", "}").replace("{", "x-").replace("}", "")


async def test_every_route_says_who_may_call_it_and_answers_nobody_else(app: Service) -> None:
    assert undeclared(app) == []
    assert await unguarded(app) == []
    assert {path for _, path, access in app.routes if access is not None and access.role is None} == OPEN


async def test_strangers_are_strangers_everywhere_also_where_there_is_nothing(door: Door, app: Service) -> None:
    paths = {concrete(path) for _, path, _ in app.routes if path not in OPEN}
    paths |= {
        "/",
        "/v1",
        "/v1/",
        "/v2/",
        "/v3",
        "/metrics",
        "/internal/v1/events",
        "/v1/nowhere",
        "/docs/",
        "/docs/a/b",
    }
    let_in = []
    async with door.client(None) as http:
        for path, verb in itertools.product(sorted(paths), VERBS):
            answered = await http.request(verb, path)
            if answered.status_code != 401 or answered.headers["www-authenticate"] != "Bearer":
                let_in.append(f"{verb} {path} → {answered.status_code}")
            elif verb != "HEAD":
                said = "token-refused" if verb == "GET" and path.startswith(BY_LINK) else "unauthenticated"
                if answered.json()["code"] != said:
                    let_in.append(f"{verb} {path} → {answered.text}")
    assert let_in == []
    asked = {scope["path"] for scope in door.upstream.seen}
    assert asked <= {"/openapi.json"}  # no service ever heard of it


async def test_internal_tokens_are_no_keys(door: Door, key_folder: KeyFolder) -> None:
    async with door.client(None) as http:
        for issuer in ("gateway", "pipelines", "trainer"):
            headers = key_folder.headers("gateway", issuer=issuer, role=Role.ADMIN)
            for path in ("/v1/whoami", "/v1/datasets", "/internal/v1/events"):
                assert (await http.get(path, headers=headers)).status_code == 401


async def test_what_is_not_public_is_not_there_for_an_admin_either(door: Door) -> None:
    async with door.client() as http:
        for path in (
            "/metrics",
            "/internal/v1/events",
            "/internal/v1/audit",
            "/",
            "/v1",
            "/v1/",
            "/v3/x",
            "/v1/nowhere",
        ):
            for verb in VERBS:
                answered = await http.request(verb, path)
                assert answered.status_code == 404, (verb, path)
                assert answered.headers["content-type"] == "application/problem+json"
        assert (await http.post("/v1/whoami")).status_code == 405
        assert (await http.get("/v1/whoami/")).status_code == 404
    assert {scope["path"] for scope in door.upstream.seen} <= {"/openapi.json"}


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_goes_further_than_their_role(door: Door, app: Service, role: str) -> None:
    door.upstream.replies["/internal/v1/audit"] = says({"items": []})
    async with door.client(role) as http:
        for verb, path, access in app.routes:
            if path in OPEN or path.startswith(BY_LINK) or access is None or access.role is None:
                continue
            answered = await http.request(verb, concrete(path))
            scopes = {"viewer": "predict read", "editor": "predict read write", "admin": "admin"}[role].split()
            may = ROLES[role].at_least(access.role) and any(
                _lets(Scope(scope), verb, concrete(path)) for scope in scopes
            )
            assert (answered.status_code == 403) is not may, (verb, path, answered.status_code)
            assert answered.status_code not in (401, 500), (verb, path, answered.text)
            if path.startswith(("/v1/keys", "/v1/audit")) or (path.startswith("/v1/projects") and verb != "GET"):
                assert may is (role == "admin")


def _lets(scope: Scope, verb: str, path: str) -> bool:
    allowed = {
        Scope.PREDICT: {"ORIENT", "DESCRIBE", "PREDICT"},
        Scope.READ: {"ORIENT", "DESCRIBE", "READ"},
        Scope.WRITE: {"ORIENT", "DESCRIBE", "READ", "WRITE"},
        Scope.ADMIN: {"ORIENT", "DESCRIBE", "READ", "WRITE", "PREDICT", "ADMINISTER"},
    }
    return operation_of(verb, path).name in allowed[scope]


async def test_the_gateways_own_refusals_of_the_inference_protocol_are_in_its_shape(
    door: Door, engine: AsyncEngine
) -> None:
    reader = await add_key(engine, "blue", "vic", Role.VIEWER, Scope.READ)
    async with door.client(None) as http:
        for headers, status in (({}, 401), (bearer("no"), 401), (bearer(reader), 403)):
            refused = await http.post("/v2/models/a/infer", json={}, headers=headers)
            assert refused.status_code == status
            assert refused.headers["content-type"] == "application/json"
            said = refused.json()
            assert said["error"] == said["detail"] != ""
            assert (said["status"], said["request_id"]) == (status, refused.headers["x-request-id"])
            assert int(refused.headers["content-length"]) == len(refused.content)
        head = await http.head("/v2/models/a")
        assert (head.status_code, head.content) == (401, b"")
    # What a service says passes as it is, also when it is a problem.
    door.upstream.replies["/v2/models/a/infer"] = says({"detail": "from serving"}, 404, "application/problem+json")
    async with door.client() as http:
        assert (await http.post("/v2/models/a/infer", json={})).json() == {"detail": "from serving"}
        big = await http.post("/v2/models/a/infer", content=b"x" * (5 << 20))
        assert (big.status_code, big.json()["code"]) == (413, "content-too-large")
        assert "4194304" in big.json()["error"]


async def test_metrics_are_apart_and_only_where_they_were_asked_for(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> None:
    with listen("127.0.0.1", 0) as free:
        apart = free.getsockname()[1]
    settings = settings_of(database_url("gateway"), key_folder, metrics_port=apart)
    async with gateway_at_work(settings) as port, client(port, blue["admin"]) as http, client(apart) as inside:
        assert (await http.get("/metrics")).status_code == 404
        await http.get("/v1/whoami")

        async def metrics() -> str:
            return (await inside.get("/metrics")).text

        text = await eventually(metrics)
        assert 'route="/v1/whoami"' in text
        assert (await inside.get("/v1/whoami")).status_code == 401
