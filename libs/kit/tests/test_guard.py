"""Deny by default: who is not known, or asks for what nobody declared, reaches no code of ours."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.types import Receive, Scope, Send

from kit import errors
from kit.app import Service, assemble, make_api
from kit.bodies import answer
from kit.callers import Access, Caller, CallerDep, Role, access_of, public, requires
from kit.routes import RawRoute
from kit.testing import KeyFolder, client_of, undeclared, unguarded
from kit.tokens import load_verifier


@asynccontextmanager
async def no_lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    yield {}


def routes() -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/forgotten/{name}")
    async def get_forgotten(name: str) -> str:
        raise AssertionError("nobody declared who may call this")

    @router.get("/open")
    @public
    async def get_open() -> str:
        return "open"

    @router.get("/look")
    @requires(Role.VIEWER)
    async def get_look(caller: CallerDep) -> str:
        return f"{caller.project} {caller.subject} {caller.issuer}"

    @router.put("/change")
    @requires(Role.EDITOR)
    async def put_change() -> str:
        return "changed"

    @router.post("/inner")
    @requires(Role.VIEWER, issuers={"trainer"})
    async def post_inner() -> str:
        return "inner"

    return router


async def say(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["answer_headers"] = [(b"x-said", b"beside")]
    await answer(send, 200, scope["path_params"].get("name", "-").encode(), {})


RAW = [
    RawRoute(frozenset({"GET"}), "/v1/raw/{name}", say, Access(Role.EDITOR)),
    RawRoute(frozenset({"POST"}), "/v1/look", say, Access(Role.ADMIN)),
]


async def of_attempt(scope: Scope, token: str) -> Caller:
    if token == "tya_dead":
        raise errors.Unauthenticated("The attempt is over.")
    if token == "tya_unsure":
        raise errors.Unavailable("The database is not answering.")
    if token == "tya_crowded":
        raise PoolTimeout("no connection")
    if token == "tya_defect":
        raise ValueError("a defect of ours")
    return Caller("demo", Role.VIEWER, "attempt-1", "trainer")


@pytest.fixture
def app(key_folder: KeyFolder) -> Service:
    api = make_api("doors", no_lifespan)
    api.include_router(routes())
    verifier = load_verifier(key_folder.public, "doors")
    return assemble(api, verifier=verifier, raw=RAW, authenticators={"tya_": of_attempt})


@pytest.fixture
async def client(app: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app) as client:
        yield client


async def test_a_route_without_a_declaration_answers_nobody(
    client: httpx2.AsyncClient, key_folder: KeyFolder, app: Service
) -> None:
    assert (await client.get("/v1/forgotten/a")).status_code == 401
    admin = key_folder.headers("doors", role=Role.ADMIN)
    answered = await client.get("/v1/forgotten/a", headers=admin)
    assert (answered.status_code, answered.json()["code"]) == (403, "not-declared")
    assert undeclared(app) == ["GET /v1/forgotten/{name}"]


async def test_strangers_get_what_is_public_and_nothing_else(client: httpx2.AsyncClient, app: Service) -> None:
    assert (await client.get("/v1/open")).json() == "open"
    assert await unguarded(app) == []
    for path in ("/v1/nothing", "/", "/docs", "/v1/look/", "/v1//look"):
        stranger = await client.get(path)
        assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthenticated")


async def test_a_route_that_answers_strangers_is_found(app: Service) -> None:
    """As it would be if somebody put the guard behind the router."""
    app._stack = app.api
    assert "GET /v1/look → 500" in await unguarded(app)


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        (Role.VIEWER, "GET", "/v1/look", 200),
        (Role.VIEWER, "HEAD", "/v1/raw/a", 403),
        (Role.VIEWER, "PUT", "/v1/change", 403),
        (Role.VIEWER, "GET", "/v1/raw/a", 403),
        (Role.EDITOR, "PUT", "/v1/change", 200),
        (Role.EDITOR, "GET", "/v1/raw/a", 200),
        (Role.EDITOR, "POST", "/v1/look", 403),
        (Role.ADMIN, "POST", "/v1/look", 200),
        (Role.ADMIN, "PUT", "/v1/change", 200),
        (Role.ADMIN, "DELETE", "/v1/change", 405),
        (Role.ADMIN, "GET", "/v1/nothing", 404),
    ],
)
async def test_a_role_may_do_what_it_may(
    client: httpx2.AsyncClient, key_folder: KeyFolder, role: Role, method: str, path: str, status: int
) -> None:
    given = await client.request(method, path, headers=key_folder.headers("doors", role=role))
    assert given.status_code == status
    if status == 403 and method != "HEAD":
        assert given.json()["code"] == "role-too-low"


async def test_an_answer_says_what_the_application_says_beside_it(
    client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    headers = key_folder.headers("doors", role=Role.EDITOR)
    assert (await client.get("/v1/raw/a", headers=headers)).headers["x-said"] == "beside"
    assert "x-said" not in (await client.get("/v1/open")).headers


async def test_what_is_internal_is_not_there_for_others(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    neighbour = await client.post("/v1/inner", headers=key_folder.headers("doors", issuer="trainer"))
    assert neighbour.json() == "inner"
    user = await client.post("/v1/inner", headers=key_folder.headers("doors", role=Role.ADMIN))
    assert (user.status_code, user.json()["code"]) == (404, "route-not-found")


async def test_identity_comes_from_the_token_alone(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    headers = {**key_folder.headers("doors"), "x-project": "other", "host": "x/v1/open", "x-forwarded-for": "a"}
    assert (await client.get("/v1/look?project=other", headers=headers)).json() == "demo ada gateway"


@pytest.mark.parametrize(("token", "status"), [("tya_crowded", 503), ("tya_defect", 500)])
async def test_an_authenticator_without_its_database_says_so(
    client: httpx2.AsyncClient, token: str, status: int
) -> None:
    answer = await client.get("/v1/look", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) is (status == 503)


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("authorization", b"Bearer caf\xc3\xa9")],
        [("authorization", "Bearer a.b.c")],
    ],
)
async def test_what_is_no_token_is_nobody(client: httpx2.AsyncClient, given: list[tuple[str, str]]) -> None:
    answered = await client.get("/v1/look", headers=given)
    assert (answered.status_code, answered.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_token_for_another_service_is_nobody_here(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    assert (await client.get("/v1/look", headers=key_folder.headers("registry"))).status_code == 401


@pytest.mark.parametrize(("token", "status"), [("tya_live", 200), ("tya_dead", 401), ("tya_unsure", 503)])
async def test_other_kinds_of_tokens_are_known_by_their_beginning(
    client: httpx2.AsyncClient, token: str, status: int
) -> None:
    answered = await client.get("/v1/look", headers={"authorization": f"bearer {token}"})
    assert answered.status_code == status


async def test_a_service_without_authenticators_knows_nobody(key_folder: KeyFolder) -> None:
    api = make_api("doors", no_lifespan)
    api.include_router(routes())
    async with client_of(Service(api, authenticators={})) as client:
        answered = await client.get("/v1/look", headers=key_folder.headers("doors"))
        assert (answered.status_code, answered.json()["code"]) == (401, "unauthenticated")


async def test_what_is_not_http_goes_nowhere(app: Service) -> None:
    async def never(*_: object) -> Any:
        raise AssertionError

    await app({"type": "websocket", "path": "/v1/open", "headers": []}, never, never)


def test_roles_include_those_before_them() -> None:
    assert [Role.EDITOR.at_least(role) for role in Role] == [True, True, False]


def test_what_is_no_declaration_counts_as_none() -> None:
    def endpoint() -> None: ...

    endpoint.__access__ = "everybody"  # type: ignore[attr-defined]
    assert access_of(endpoint) is None
