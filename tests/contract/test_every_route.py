"""Every route of every service, with every verb: nobody gets in by a door that was forgotten."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from houses import PATIENCE, House

from gateway import actions
from gateway.actions import Wanted
from gateway.store.projects import ProjectStore
from kit.app import Service
from kit.callers import Access, Role
from kit.testing import SERVICES, EngineOf, KeyFolder, client_of, eventually, undeclared, unguarded

INNER = [service for service in SERVICES if service != "gateway"]
LOWER = {Role.EDITOR: [Role.VIEWER], Role.ADMIN: [Role.VIEWER, Role.EDITOR]}
PUBLIC = {"/livez", "/readyz", "/openapi.json", "/metrics"}
ASKS = ("/predict", "/infer", ":predict", "/invocations", "/repository/index", "/predictions")
"""How the paths end that a viewer may send something to: it is answered, now or later, and changes nothing else."""
OPEN = {"/livez", "/readyz", "/openapi.json", "/docs", "/docs/{name}"}
"""Of the gateway, to strangers: health, the API document, and its pages."""


def concrete(path: str) -> str:
    return path.replace(":path}", "}").replace("{", "x-").replace("}", "")


def guarded(app: Service) -> list[tuple[str, str, Access]]:
    return [(method, path, access) for method, path, access in app.routes if access is not None and access.role]


def public(app: Service) -> set[str]:
    declared = {path for _, path, access in app.routes if access is not None and access.role is None}
    return {path.replace(":path}", "}") for path in declared}


@pytest.mark.parametrize("service", SERVICES)
async def test_strangers_get_nowhere(house: House, service: str) -> None:
    app = house.app(service)
    assert undeclared(app) == []
    assert await unguarded(app) == []
    assert public(app) <= (OPEN if service == "gateway" else PUBLIC)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_writes_its_document(house: House, service: str) -> None:
    document = house.app(service).openapi()
    assert document["openapi"].startswith("3.1")
    assert document["paths"]
    assert not [path for path in document["paths"] if not path.startswith(("/v1/", "/v2"))]


@pytest.mark.parametrize("service", INNER)
async def test_a_lower_role_than_a_route_declares_is_not_enough(
    house: House, key_folder: KeyFolder, service: str
) -> None:
    app = house.app(service)
    let_in = []
    async with client_of(app) as client:
        for method, path, access in guarded(app):
            issuer = min(access.issuers or {"gateway"})
            for role in LOWER.get(access.role or Role.VIEWER, []):
                headers = key_folder.headers(service, issuer=issuer, role=role)
                answer = await client.request(method, concrete(path), headers=headers)
                if answer.status_code != 403:
                    let_in.append(f"{role} {method} {path} → {answer.status_code}")
    assert let_in == []


@pytest.mark.parametrize("service", INNER)
async def test_what_changes_things_needs_more_than_a_viewer(house: House, key_folder: KeyFolder, service: str) -> None:
    """Predictions, and what services say to each other, are all that a viewer can send."""
    app = house.app(service)
    viewer = key_folder.headers(service, role=Role.VIEWER)
    done = []
    async with client_of(app) as client:
        for method, path, access in guarded(app):
            open_to_viewers = access.role is Role.VIEWER and access.issuers is None
            if method in {"GET", "HEAD"} or not open_to_viewers or path.endswith(ASKS):
                continue
            # What is left only says, in the words of the inference protocol, that there is no such thing.
            answer = await client.request(method, concrete(path), headers=viewer)
            if answer.status_code not in (404, 405):
                done.append(f"{method} {path} → {answer.status_code}")
    assert done == []


@pytest.mark.parametrize("service", INNER)
async def test_what_is_internal_is_not_there_for_users_nor_for_services_that_need_it_not(
    house: House, key_folder: KeyFolder, service: str
) -> None:
    app = house.app(service)
    internal = [(method, path, access) for method, path, access in guarded(app) if path.startswith("/internal")]
    assert internal
    seen = []
    async with client_of(app) as client:
        for method, path, access in internal:
            assert access.issuers, f"{method} {path} names nobody"
            for issuer in set(SERVICES) - access.issuers:
                headers = key_folder.headers(service, issuer=issuer, role=Role.ADMIN)
                answer = await client.request(method, concrete(path), headers=headers)
                if answer.status_code != 404:
                    seen.append(f"{issuer} {method} {path} → {answer.status_code}")
    assert seen == []


# The gateway: its callers bring API keys.


@pytest.fixture
async def keys(engine_of: EngineOf) -> dict[Role, str]:
    """A key of each role in the project blue."""
    engine = await engine_of("gateway")
    made: dict[Role, str] = {}
    async with engine.begin() as connection:
        await ProjectStore(connection).add("blue", made_by=None)
        for role in Role:
            await ProjectStore(connection).put_member("blue", role.value, role)
            wanted = Wanted("blue", "a key", role.value, role, None, timedelta(days=1))
            key, _ = await actions.make(connection, wanted, most=10)
            made[role] = str(key)
    return made


@pytest.fixture
async def gateway(house: House, keys: dict[Role, str]) -> Service:
    return house.app("gateway")


@pytest.fixture
async def door(gateway: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(gateway) as client:

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_ready, PATIENCE)
        yield client


async def test_a_key_of_a_lower_role_than_a_route_declares_is_not_enough(
    gateway: Service, door: httpx2.AsyncClient, keys: dict[Role, str]
) -> None:
    let_in = []
    tried = 0
    for method, path, access in guarded(gateway):
        for role in LOWER.get(access.role or Role.VIEWER, []):
            headers = {"authorization": f"Bearer {keys[role]}"}
            answer = await door.request(method, concrete(path), headers=headers)
            tried += 1
            if answer.status_code != 403:
                let_in.append(f"{role} {method} {path} → {answer.status_code}")
    assert let_in == []
    assert tried > 10


async def test_no_key_reaches_metrics_or_what_is_internal(
    door: httpx2.AsyncClient, keys: dict[Role, str], key_folder: KeyFolder
) -> None:
    admin = {"authorization": f"Bearer {keys[Role.ADMIN]}"}
    for path in ("/metrics", "/internal/v1/events", "/internal/v1/holds", "/v1/../metrics", "/v1/jobs/../../metrics"):
        assert (await door.get(path)).status_code in (400, 401)
        assert (await door.get(path, headers=admin)).status_code in (400, 404)


async def test_an_internal_token_is_no_key(door: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    for audience in SERVICES:
        headers = key_folder.headers(audience, role=Role.ADMIN)
        assert (await door.get("/v1/whoami", headers=headers)).status_code == 401
