"""What others need of the registry, by their own clients."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from houses import ADA, EVE, House, pieces

from kit import errors
from kit.events import START
from pipelines.clients.registry import Alias
from pipelines.clients.registry import RegistryClient as PipelinesRegistry
from registry.testing import FILE, digest_of, manifest_of
from serving.clients.registry import Registry as ServingRegistry
from serving.domain.deployments import Reference
from trainer.clients.registry import RegistryClient as TrainerRegistry
from trainyard import results

NOW = timedelta(0)
MODEL = "flight-delays"


@pytest.fixture(autouse=True)
async def _registry(house: House) -> None:
    await house.start("registry")


@pytest.fixture
async def trainer(house: House) -> TrainerRegistry:
    return TrainerRegistry(await house.ask("trainer", "registry"))


@pytest.fixture
async def serving(house: House) -> ServingRegistry:
    return ServingRegistry(await house.ask("serving", "registry"))


@pytest.fixture
async def pipelines(house: House) -> PipelinesRegistry:
    return PipelinesRegistry(await house.ask("pipelines", "registry"))


async def register(trainer: TrainerRegistry, *seeds: int) -> list[dict[str, Any]]:
    await trainer.put_blob(ADA, digest_of(FILE), len(FILE), pieces(FILE[:3], FILE[3:]))
    return [await trainer.put_version(ADA, MODEL, manifest_of(parameters={"seed": seed})) for seed in seeds]


async def test_the_trainer_registers_a_version_once(house: House, trainer: TrainerRegistry) -> None:
    first, again, other = await register(trainer, 0, 0, 1)
    assert first == again == {"name": MODEL, "version": 1, "digest": first["digest"]}
    assert (other["version"], other["digest"] == first["digest"]) == (2, False)
    await register(trainer)  # the file again


async def test_the_trainer_is_told_of_bytes_that_differ(trainer: TrainerRegistry) -> None:
    with pytest.raises(errors.Invalid):
        await trainer.put_blob(ADA, digest_of(b"other"), len(FILE), pieces(FILE))
    with pytest.raises(errors.Error):  # of a file that was never handed over
        await trainer.put_version(ADA, MODEL, manifest_of(b"never sent"))


async def test_serving_reads_what_a_reference_means_and_its_bytes(
    trainer: TrainerRegistry, serving: ServingRegistry, pipelines: PipelinesRegistry
) -> None:
    (made,) = await register(trainer, 0)
    await pipelines.move(ADA, MODEL, "champion", 1, None)
    for reference in ("1", "champion", "latest", made["digest"]):
        found = await serving.version("blue", Reference(MODEL, reference))
        assert (found["model"], found["version"], found["digest"]) == (MODEL, 1, made["digest"])
    (file,) = found["formats"]
    async with serving.file("blue", MODEL, 1, file["path"]) as chunks:
        data = b"".join([chunk async for chunk in chunks])
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == file["digest"]
    assert len(data) == file["size"]
    assert found["input_example"] == manifest_of()["input_example"]
    assert found["signature"] == manifest_of()["signature"]
    for project, reference in (("blue", "2"), ("blue", "nobody"), ("red", "1")):
        with pytest.raises(errors.NotFound):
            await serving.version(project, Reference(MODEL, reference))


async def test_what_serving_holds_stays(house: House, trainer: TrainerRegistry, serving: ServingRegistry) -> None:
    await register(trainer, 0)
    user = await house.user("registry")
    path = f"/v1/models/{MODEL}/versions/1"
    await serving.hold("blue", f"{MODEL}@1", "serving/deployment/1")
    assert (await user.delete(path)).status_code == 409
    await serving.release("blue", f"{MODEL}@1", "serving/deployment/1")
    assert (await user.delete(path)).status_code == 204
    with pytest.raises(errors.NotFound):
        await serving.hold("blue", f"{MODEL}@1", "serving/deployment/1")


async def test_pipelines_move_an_alias_by_what_they_saw(trainer: TrainerRegistry, pipelines: PipelinesRegistry) -> None:
    await register(trainer, 0, 1, 2)
    assert await pipelines.alias(ADA, MODEL, "champion") is None
    await pipelines.move(ADA, MODEL, "champion", 1, None)
    seen = await pipelines.alias(ADA, MODEL, "champion")
    assert isinstance(seen, Alias)
    assert seen.version == 1
    await pipelines.move(ADA, MODEL, "champion", 2, seen)
    for stale in (None, seen):
        with pytest.raises(errors.PreconditionFailed):
            await pipelines.move(ADA, MODEL, "champion", 3, stale)
    assert (await pipelines.version(ADA, MODEL, "champion")).version == 2
    with pytest.raises(errors.NotFound):
        await pipelines.version(EVE, MODEL, "champion")


async def test_the_feed_tells_of_versions_and_aliases(
    house: House, trainer: TrainerRegistry, serving: ServingRegistry, pipelines: PipelinesRegistry
) -> None:
    (made,) = await register(trainer, 0)
    await pipelines.move(ADA, MODEL, "champion", 1, None)
    user = await house.user("registry")
    etag = (await user.get(f"/v1/models/{MODEL}/aliases/champion")).headers["etag"]
    assert (await user.delete(f"/v1/models/{MODEL}/aliases/champion", headers={"if-match": etag})).status_code == 204
    assert (await user.delete(f"/v1/models/{MODEL}/versions/1")).status_code == 204
    told = [(event.kind, event.subject, event.project) for event in (await serving.events(START)).events]
    assert told == [
        ("model.version.registered", f"{MODEL}@1", "blue"),
        ("model.alias.moved", f"{MODEL}@champion", "blue"),
        ("model.alias.deleted", f"{MODEL}@champion", "blue"),
        ("model.version.deleted", f"{MODEL}@1", "blue"),
    ]
    moved = (await serving.events(START)).events[1]
    assert moved.data == {"model": MODEL, "alias": "champion", "version": 1, "digest": made["digest"]}


async def test_the_client_of_users_reads_all_of_it(
    house: House, trainer: TrainerRegistry, pipelines: PipelinesRegistry
) -> None:
    (made,) = await register(trainer, 0)
    await pipelines.move(ADA, MODEL, "champion", 1, None)
    user = await house.user("registry")
    version = results.ModelVersion.of((await user.get(f"/v1/models/{MODEL}/versions/champion")).json())
    assert (version.reference, version.digest, version.metrics) == (f"{MODEL}@1", made["digest"], {"roc_auc": 0.736})
    assert (version.lineage["dataset"], version.task) == ("flights@3", "classification")
    assert version.twin is not None
    assert version.formats[0]["path"] == "model.skops"
    assert results.Model.of((await user.get(f"/v1/models/{MODEL}")).json()).name == MODEL
    alias = results.Alias.of((await user.get(f"/v1/models/{MODEL}/aliases/champion")).json())
    assert (alias.alias, alias.version) == ("champion", 1)
