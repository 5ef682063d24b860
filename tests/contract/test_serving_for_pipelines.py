"""What pipelines, and users, need of serving, by their own clients, with the registry beside."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest
from houses import ADA, PATIENCE, House, pieces

from kit import errors
from kit.events import START
from kit.testing import eventually
from pipelines.clients.registry import RegistryClient as PipelinesRegistry
from pipelines.clients.serving import Deployment, ServingClient
from registry.testing import FILE, digest_of, manifest_of
from trainer.clients.registry import RegistryClient as TrainerRegistry
from trainyard import results

NOW = timedelta(0)
CHAMPION = {"model": "flight-delays@champion"}


@pytest.fixture(autouse=True)
async def registry(house: House) -> PipelinesRegistry:
    """With two versions that nobody can load, of which the first is the champion."""
    await house.start("registry")
    await house.start("serving", loops=True)
    trainer = TrainerRegistry(await house.ask("trainer", "registry"))
    await trainer.put_blob(ADA, digest_of(FILE), len(FILE), pieces(FILE))
    for seed in (0, 1):
        await trainer.put_version(ADA, "flight-delays", manifest_of(parameters={"seed": seed}))
    registry = PipelinesRegistry(await house.ask("pipelines", "registry"))
    await registry.move(ADA, "flight-delays", "champion", 1, None)
    return registry


@pytest.fixture
async def pipelines(house: House) -> ServingClient:
    return ServingClient(await house.ask("pipelines", "serving"))


async def settled(pipelines: ServingClient, name: str) -> Deployment:
    async def read() -> Deployment | None:
        found = await pipelines.deployment(ADA, name)
        return found if found.is_settled and found.status.phase in ("ready", "failed") else None

    found = await eventually(read, PATIENCE)
    assert found is not None
    return found


async def test_a_put_that_changes_nothing_is_no_new_generation(pipelines: ServingClient) -> None:
    with pytest.raises(errors.NotFound):
        await pipelines.deployment(ADA, "flights")
    first = await pipelines.put(ADA, "flights", CHAMPION)
    again = await pipelines.put(ADA, "flights", CHAMPION)
    assert (first.name, first.generation, again.generation) == ("flights", 1, 1)
    assert [part["model"] for part in first.models] == ["flight-delays@champion"]
    other = await pipelines.put(ADA, "flights", {"models": [{"model": "flight-delays@2", "weight": 1}]})
    assert other.generation == 2
    with pytest.raises(errors.Invalid):
        await pipelines.put(ADA, "flights", {"model": "Not A Reference"})


async def test_a_model_that_cannot_be_served_is_told_with_its_reason(house: House, pipelines: ServingClient) -> None:
    await pipelines.put(ADA, "flights", CHAMPION)
    failed = await settled(pipelines, "flights")
    assert failed.status.phase == "failed"
    assert failed.status.reason
    assert failed.status.message
    told = [(event.kind, event.subject) for event in (await pipelines.service.events(START, wait=NOW)).events]
    assert ("deployment.failed", "flights") in told

    user = await house.user("serving")
    read = results.Deployment.of((await user.get("/v1/deployments/flights")).json())
    assert (read.name, read.phase, read.generation) == ("flights", "failed", 1)
    asked = await user.post("/v1/deployments/flights/predict", json={"rows": [{"carrier": "UA"}]})
    assert (asked.status_code, asked.headers["content-type"]) == (503, "application/problem+json")


async def test_what_is_deployed_is_held_until_it_is_deployed_no_more(house: House, pipelines: ServingClient) -> None:
    await pipelines.put(ADA, "flights", {"model": "flight-delays@2"})
    await settled(pipelines, "flights")
    models, deployments = await house.user("registry"), await house.user("serving")

    async def refused() -> bool:
        return (await models.delete("/v1/models/flight-delays/versions/2")).status_code == 409

    assert await refused()
    await _delete(deployments, "/v1/deployments/flights")

    async def deleted() -> bool:
        return (await models.delete("/v1/models/flight-delays/versions/2")).status_code == 204

    await eventually(deleted, PATIENCE)


async def _delete(user: httpx2.AsyncClient, path: str) -> None:
    found: Any = await user.get(path)
    answer = await user.delete(path, headers={"if-match": found.headers["etag"]})
    assert answer.status_code == 204, answer.text
