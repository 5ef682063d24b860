"""What the gateway asks of all the others, by its own client."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from flights import SETTINGS
from houses import ADA, PATIENCE, House

from gateway import actions
from gateway.actions import Wanted
from gateway.clients.http import clients
from gateway.clients.services import Services
from gateway.clients.upstreams import Upstreams
from gateway.domain.openapi import merge
from gateway.store.projects import ProjectStore
from kit.callers import Caller, Role
from kit.testing import EngineOf, KeyFolder, eventually
from kit.tokens import load_signer

INNER = ("ingest", "trainer", "registry", "serving", "pipelines")
ADMIN = Caller("blue", Role.ADMIN, "ada", "gateway")


@pytest.fixture
async def services(house: House, key_folder: KeyFolder) -> AsyncIterator[Services]:
    await house.start(*INNER)
    async with clients(answer_within=timedelta(seconds=20)) as both:
        upstreams = Upstreams({service: [house.url(service)] for service in INNER}, both)
        yield Services(upstreams, load_signer(key_folder.private("gateway")))


async def test_it_learns_how_they_are(house: House, services: Services) -> None:
    async def all_ready() -> bool:
        return all(said["ready"] for said in (await services.readiness()).values())

    await eventually(all_ready, PATIENCE)
    assert set(await services.readiness()) == set(INNER)


async def test_it_reads_their_documents(services: Services) -> None:
    documents = {service: await services.openapi(service) for service in INNER}
    document = merge(documents, version="1")
    assert {"/v1/datasets", "/v1/jobs", "/v1/models", "/v1/deployments/{name}/predict", "/v1/runs"} <= set(
        document["paths"]
    )
    assert document["x-unavailable"] == []


async def test_it_reads_their_audits_and_knows_what_a_project_has(house: House, services: Services) -> None:
    assert await services.used(ADMIN, "blue") == []
    user = await house.user("ingest")
    named = {"x-request-id": "r-1"}
    made = await user.post("/v1/datasets", json={"name": "flights", "settings": SETTINGS}, headers=named)
    assert made.status_code == 201
    assert await services.used(ADMIN, "blue") == ["datasets"]
    assert await services.used(ADMIN, "red") == []
    written = await services.audit(ADMIN, limit=10, token=None)
    assert set(written) == set(INNER)
    (entry,) = written["ingest"]
    assert {name: entry[name] for name in ("subject", "noun", "name", "request_id")} == {
        "subject": ADA.subject,
        "noun": "dataset",
        "name": "flights",
        "request_id": "r-1",
    }
    assert [service for service, entries in written.items() if entries] == ["ingest"]


async def test_a_key_reaches_every_service(house: House, services: Services, engine_of: EngineOf) -> None:
    """Each list is there, empty, for a viewer; a request keeps its name on the way, and a problem its form."""
    await house.start("gateway")
    engine = await engine_of("gateway")
    async with engine.begin() as connection:
        await ProjectStore(connection).add("blue", made_by=None)
        await ProjectStore(connection).put_member("blue", "vic", Role.VIEWER)
        key, _ = await actions.make(
            connection, Wanted("blue", "a key", "vic", Role.VIEWER, None, timedelta(days=1)), most=10
        )
    headers = {"authorization": f"Bearer {key}", "x-request-id": "r-2"}
    async with httpx2.AsyncClient(base_url=house.url("gateway"), headers=headers, trust_env=False) as user:

        async def is_known() -> bool:
            return (await user.get("/v1/whoami")).status_code == 200

        await eventually(is_known, PATIENCE)
        for noun in ("datasets", "jobs", "models", "deployments", "pipelines", "runs"):
            listed = await user.get(f"/v1/{noun}")
            assert (listed.status_code, listed.json()) == (200, {"items": [], "next_page_token": None}), noun
            assert listed.headers["x-request-id"] == "r-2"
            missing = await user.get(f"/v1/{noun}/018f0000-0000-7000-8000-000000000001")
            assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json"), noun
            assert missing.json()["request_id"] == "r-2"
        ready = await user.get("/v2/health/ready")
        assert ready.status_code == 200
        unknown = await user.get("/v2/models/nothing")
        assert (unknown.status_code, "error" in unknown.json()) == (404, True)
