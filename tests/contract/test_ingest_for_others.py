"""What others need of ingest, by their own clients."""

import gzip
import json
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flights import SETTINGS, make_flights
from houses import ADA, EVE, House

from kit import errors
from kit.callers import Role
from kit.clients import Principal
from kit.events import START
from kit.testing import eventually
from pipelines.clients.ingest import IngestClient as PipelinesIngest
from serving.clients.ingest import Ingest as ServingIngest
from serving.clients.ingest import PartTooLarge, RowsDiffer
from serving.domain.batches import Pinned as Source
from serving.domain.batches import cuts_of
from trainer.clients.ingest import IngestClient as TrainerIngest
from trainer.clients.ingest import InputsDiffer
from trainer.domain.jobs import Pinned
from trainer.domain.specs import DatasetReference
from trainyard import results

NOW = timedelta(0)


@pytest.fixture
async def version(house: House) -> dict[str, object]:
    await house.start("ingest", loops=True)
    return await make_flights(await house.user("ingest"))


@pytest.fixture
async def trainer(house: House) -> TrainerIngest:
    return TrainerIngest(await house.ask("trainer", "ingest"))


@pytest.fixture
async def pipelines(house: House) -> PipelinesIngest:
    return PipelinesIngest(await house.ask("pipelines", "ingest"))


def pinned(version: dict[str, object]) -> Pinned:
    return Pinned("flights@1", str(version["digest"]))


async def test_the_trainer_reads_what_a_reference_means(version: dict[str, object], trainer: TrainerIngest) -> None:
    for text in ("flights", "flights@1", f"flights@{version['digest']}"):
        seen = await trainer.version(ADA, DatasetReference.parse(text))
        assert (seen.phase, seen.pinned) == ("ready", pinned(version))
        assert seen.columns == ("day", "carrier", "distance", "late")
    for text in ("flights@2", "nothing", "flights@sha256:" + "0" * 64):
        with pytest.raises(errors.NotFound):
            await trainer.version(ADA, DatasetReference.parse(text))
    with pytest.raises(errors.NotFound):
        await trainer.version(EVE, DatasetReference.parse("flights"))


async def test_the_trainer_fetches_verified_bytes(
    version: dict[str, object], trainer: TrainerIngest, tmp_path: Path
) -> None:
    shards = await trainer.shards(ADA, pinned(version))
    assert {shard.split for shard in shards} == {"train", "held_out"}
    rows = 0
    for number, shard in enumerate(shards):
        path = tmp_path / f"{number}.parquet"
        await trainer.fetch(ADA, pinned(version), shard, path)
        assert path.stat().st_size == shard.size
        rows += pq.read_metadata(path).num_rows
    assert rows == sum(shard.rows for shard in shards) == version["rows"] == 60
    with pytest.raises(InputsDiffer):
        await trainer.shards(ADA, Pinned("flights@1", "sha256:" + "0" * 64))


async def test_what_the_trainer_holds_stays(house: House, version: dict[str, object], trainer: TrainerIngest) -> None:
    user = await house.user("ingest")
    await trainer.hold(ADA, pinned(version), "trainer/job/1")
    assert (await user.delete("/v1/datasets/flights/versions/1")).status_code == 409
    await trainer.release(ADA, pinned(version), "trainer/job/1")
    assert (await user.delete("/v1/datasets/flights/versions/1")).status_code == 204
    with pytest.raises(errors.NotFound):
        await trainer.hold(ADA, pinned(version), "trainer/job/2")


async def test_the_feed_tells_what_became_of_versions(
    house: House, version: dict[str, object], trainer: TrainerIngest, pipelines: PipelinesIngest
) -> None:
    await (await house.user("ingest")).delete("/v1/datasets/flights/versions/1")
    feed = await trainer.events(START, NOW)
    ready, deleted = (event for event in feed.events if event.subject == "flights@1")
    assert (ready.kind, deleted.kind) == ("dataset.version.ready", "dataset.version.deleted")
    assert {"dataset": "flights", "version": 1, "digest": version["digest"]}.items() <= ready.data.items()
    assert (await pipelines.service.events(START, wait=NOW)).events == feed.events
    assert (await trainer.events(feed.cursor, NOW)).events == []


async def test_pipelines_make_a_dataset_and_a_version_once(
    house: House, version: dict[str, object], pipelines: PipelinesIngest
) -> None:
    assert (await pipelines.dataset(ADA, "planes")) is None
    for _ in range(2):
        made = await pipelines.put_dataset(ADA, "planes", SETTINGS)
        assert made.settings["split"] == SETTINGS["split"]
        assert made == await pipelines.dataset(ADA, "planes")
    changed = await pipelines.put_dataset(ADA, "planes", {**SETTINGS, "key": ["day"]})
    assert changed.settings["key"] == ["day"]

    source = version["source"]
    assert isinstance(source, dict)
    upload = {"upload": source["upload"], "format": "csv"}
    first = await pipelines.make_version(ADA, "planes", upload, key="step-1")
    again = await pipelines.make_version(ADA, "planes", upload, key="step-1")
    other = await pipelines.make_version(ADA, "planes", upload, key="step-2")
    assert first.reference == again.reference == other.reference == "planes@1"
    assert (await pipelines.version(ADA, "planes", 1)).dataset == "planes"
    with pytest.raises(errors.Forbidden):
        await pipelines.put_dataset(Principal("blue", Role.VIEWER, "vic"), "cars", SETTINGS)


async def test_the_client_of_users_reads_all_of_it(house: House, version: dict[str, object]) -> None:
    user = await house.user("ingest")
    read = results.DatasetVersion.of(version)
    assert (read.reference, read.phase, read.rows, read.rejected) == ("flights@1", "ready", 60, 0)
    assert [column.name for column in read.schema] == ["day", "carrier", "distance", "late"]
    assert sum((read.splits or {}).values()) == 60
    dataset = results.Dataset.of((await user.get("/v1/datasets/flights")).json())
    assert dataset.settings["split"] == SETTINGS["split"]
    assert (await user.get("/v1/datasets/flights/versions/1/rejects")).json()["items"] == []
    upload = await user.post("/v1/uploads", content=b"a\n1\n", headers={"content-type": "application/octet-stream"})
    assert results.Upload.of(upload.json()).size == 4


@pytest.fixture
async def serving(house: House) -> ServingIngest:
    return ServingIngest(await house.ask("serving", "ingest"))


async def test_serving_reads_rows_as_they_are_shown(
    version: dict[str, object], serving: ServingIngest, house: House, tmp_path: Path
) -> None:
    seen = await serving.version(ADA, "flights")
    assert (seen.reference, seen.digest, seen.phase) == ("flights@1", version["digest"], "ready")
    assert [column.name for column in seen.columns] == ["day", "carrier", "distance", "late"]
    source = Source(seen.reference, str(seen.digest), seen.columns)
    shown = (await (await house.user("ingest")).get("/v1/datasets/flights/versions/1/rows")).json()["items"]
    cuts = list(cuts_of(await serving.shards(ADA, source), None))
    found: list[dict[str, object]] = []
    for number, cut in enumerate(cuts):
        path = tmp_path / str(number)
        await serving.rows(ADA, source, cut, path, largest=1 << 20)
        found += [json.loads(line) for line in path.read_bytes().splitlines()]
    assert found[: len(shown)] == shown
    with pytest.raises(PartTooLarge):
        await serving.rows(ADA, source, cuts[0], tmp_path / "large", largest=10)
    with pytest.raises(RowsDiffer):
        await serving.rows(ADA, source, replace(cuts[0], rows=cuts[0].rows + 1), tmp_path / "more", largest=1 << 20)
    with pytest.raises(RowsDiffer):
        await serving.shards(ADA, replace(source, digest="sha256:" + "0" * 64))
    with pytest.raises(errors.NotFound):
        await serving.version(EVE, "flights")


async def test_serving_holds_what_a_batch_is_about(
    version: dict[str, object], serving: ServingIngest, house: House
) -> None:
    await serving.hold(ADA, "flights@1", "serving/batch/b")
    user = await house.user("ingest")
    refused = await user.delete("/v1/datasets/flights/versions/1")
    assert (refused.status_code, refused.json()["used_by"]) == (409, ["serving/batch/b"])
    await serving.release(ADA, "flights@1", "serving/batch/b")
    assert (await user.delete("/v1/datasets/flights/versions/1")).status_code == 204


async def test_serving_brings_parts_that_become_one_version(
    version: dict[str, object], serving: ServingIngest, house: House, tmp_path: Path
) -> None:
    batch, other = uuid.uuid4(), uuid.uuid4()
    part = tmp_path / "part"
    part.write_bytes(gzip.compress(b'{"row_number": 1, "prediction": 0.1}\n{"row_number": 2, "prediction": null}\n'))
    digest = await serving.bring(ADA, batch, part)
    columns = [{"name": "row_number", "type": "integer"}, {"name": "prediction", "type": "number"}]
    settings = {"columns": columns, "nulls": [], "split": {"by": ["row_number"], "held_out": 0.0}, "policy": "fail"}
    wanted: dict[str, Any] = {"dataset": "answers", "parts": [digest], "format": "ndjson", "compression": "gzip"}
    wanted |= {"settings": settings, "lineage": {"kind": "batch", "batch": str(batch)}}

    async def is_ready() -> bool:
        seen = await serving.assemble(ADA, batch, wanted)
        assert seen.reference == "answers@1"
        return seen.phase == "ready" and seen.digest is not None

    await eventually(is_ready)
    made = (await (await house.user("ingest")).get("/v1/datasets/answers/versions/1")).json()
    assert (made["rows"], made["lineage"]) == (2, wanted["lineage"])
    for _ in range(2):
        await serving.give_up(ADA, other)
    for late in (batch, other):
        with pytest.raises(errors.Conflict):
            await serving.bring(ADA, late, part)
