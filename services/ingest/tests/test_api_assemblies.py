"""What serving brings: rows it reads, and parts that become one version."""

import asyncio
import gzip
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from replicas_at_work import ReplicaOf
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.actions import Assembled, Assemblies
from ingest.domain.reports import Compression, Format
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import Source
from kit import errors
from kit.app import Service
from kit.blobs import BlobStore
from kit.callers import Caller, Role
from kit.tables import blob_links
from kit.testing import KeyFolder, client_of

VERSIONS = "/v1/datasets/people/versions"
COLUMNS = [{"name": "row_number", "type": "integer"}, {"name": "value", "type": "number"}]
SETTINGS = {"columns": COLUMNS, "split": {"by": ["row_number"], "held_out": 0}, "nulls": [], "policy": "fail"}
LINEAGE = {"batch": "b", "deployment": "late", "revision": 2, "dataset": "flights@1"}


@pytest.fixture
async def serving(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    """Serving, on behalf of an editor of the project blue."""
    headers = key_folder.headers("ingest", issuer="serving", project="blue", role=Role.EDITOR)
    async with client_of(app, headers) as client:
        yield client


def part(*rows: tuple[int, float | None]) -> bytes:
    lines = [json.dumps({"row_number": number, "value": value}) + "\n" for number, value in rows]
    return gzip.compress("".join(lines).encode(), 1)


async def bring(client: httpx2.AsyncClient, assembly: uuid.UUID, content: bytes) -> str:
    answer = await client.post(f"/internal/v1/assemblies/{assembly}/parts", content=content)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["upload"])


async def make(client: httpx2.AsyncClient, assembly: uuid.UUID, parts: list[str], **changes: Any) -> httpx2.Response:
    body = {"dataset": "made", "parts": parts, "format": "ndjson", "compression": "gzip", "settings": SETTINGS}
    return await client.put(f"/internal/v1/assemblies/{assembly}", json=body | {"lineage": LINEAGE} | changes)


async def linked(engine: AsyncEngine, assembly: uuid.UUID) -> int:
    query = sa.select(sa.func.count()).where(blob_links.c.owner == f"assembly:{assembly}")
    async with engine.begin() as connection:
        return int((await connection.execute(query)).scalar_one())


async def test_parts_become_one_version_in_their_order(
    serving: httpx2.AsyncClient, client: httpx2.AsyncClient, replica_of: ReplicaOf, engine: AsyncEngine
) -> None:
    assembly = uuid.uuid4()
    second = await bring(serving, assembly, part((3, 0.1 + 0.2), (4, None)))
    first = await bring(serving, assembly, part((1, 5e-324), (2, 1e300)))
    assert await bring(serving, assembly, part((1, 5e-324), (2, 1e300))) == first
    assert await linked(engine, assembly) == 2
    made = await make(serving, assembly, [first, second])
    assert (made.status_code, made.json()["version"], made.json()["lineage"]) == (200, 1, LINEAGE)
    assert await linked(engine, assembly) == 0
    await replica_of().run()
    version = (await client.get("/v1/datasets/made/versions/1")).json()
    assert (version["status"]["phase"], version["rows"], version["schema"]) == ("ready", 4, COLUMNS), version
    assert version["lineage"] == LINEAGE
    rows = (await client.get("/v1/datasets/made/versions/1/rows")).json()["items"]
    assert [(row["row_number"], row["value"]) for row in rows] == [(1, 5e-324), (2, 1e300), (3, 0.1 + 0.2), (4, None)]
    assert (await client.get("/v1/datasets/made")).json()["settings"]["policy"] == "fail"


async def test_asked_for_twice_it_is_one_version(serving: httpx2.AsyncClient) -> None:
    assembly = uuid.uuid4()
    parts = [await bring(serving, assembly, part((1, 1.0)))]
    both = await asyncio.gather(make(serving, assembly, parts), make(serving, assembly, parts))
    third = await make(serving, assembly, parts)
    assert third.status_code == 200
    assert {answer.json()["version"] for answer in (*both, third) if answer.status_code == 200} == {1}
    assert {answer.status_code for answer in both} <= {200, 409}


async def test_the_same_bytes_of_another_origin_are_another_version(serving: httpx2.AsyncClient) -> None:
    numbers = []
    for batch in ("one", "two"):
        assembly = uuid.uuid4()
        parts = [await bring(serving, assembly, part((1, 1.0)))]
        made = await make(serving, assembly, parts, lineage=LINEAGE | {"batch": batch})
        numbers.append(made.json()["version"])
    assert numbers == [1, 2]


async def test_who_is_late_brings_nothing(serving: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    assembly = uuid.uuid4()
    parts = [await bring(serving, assembly, part((1, 1.0)))]
    await make(serving, assembly, parts)
    late = await serving.post(f"/internal/v1/assemblies/{assembly}/parts", content=part((1, 2.0)))
    assert (late.status_code, late.json()["code"]) == (409, "assembly-closed")
    assert await linked(engine, assembly) == 0


async def test_what_is_given_up_holds_nothing_and_becomes_nothing(
    serving: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    assembly = uuid.uuid4()
    parts = [await bring(serving, assembly, part((1, 1.0)))]
    for _ in range(2):
        assert (await serving.delete(f"/internal/v1/assemblies/{assembly}")).status_code == 204
    assert await linked(engine, assembly) == 0
    assert (await make(serving, assembly, parts)).json()["code"] == "assembly-closed"


async def test_giving_up_late_leaves_the_version(serving: httpx2.AsyncClient) -> None:
    assembly = uuid.uuid4()
    parts = [await bring(serving, assembly, part((1, 1.0)))]
    await make(serving, assembly, parts)
    await serving.delete(f"/internal/v1/assemblies/{assembly}")
    assert (await make(serving, assembly, parts)).json()["version"] == 1


async def test_what_nobody_cares_for_is_swept(
    serving: httpx2.AsyncClient, engine: AsyncEngine, store: BlobStore
) -> None:
    assembly, other = uuid.uuid4(), uuid.uuid4()
    await bring(serving, assembly, part((1, 1.0)))
    assemblies = Assemblies(engine, store, largest=1 << 20)
    assert await assemblies.sweep(timedelta(days=1), timedelta(days=1)) == 0
    assert await assemblies.sweep(timedelta(0), timedelta(days=1)) == 1
    assert await linked(engine, assembly) == 0
    await bring(serving, other, part((1, 1.0)))
    assert await assemblies.sweep(timedelta(days=1), timedelta(0)) == 0  # the first is forgotten, and may begin anew
    await bring(serving, assembly, part((1, 1.0)))


async def test_parts_that_never_came_are_missed(serving: httpx2.AsyncClient) -> None:
    missing = await make(serving, uuid.uuid4(), ["sha256:" + "0" * 64])
    assert (missing.status_code, missing.json()["code"]) == (422, "upload-not-found")


async def test_parts_are_together_no_more_than_an_upload(
    serving: httpx2.AsyncClient, engine: AsyncEngine, store: BlobStore
) -> None:
    assembly = uuid.uuid4()
    digest = await bring(serving, assembly, content := part((1, 1.0)))
    small = Assemblies(engine, store, largest=len(content))
    source = Source("", 0, Format.NDJSON, Compression.GZIP)
    settings = DatasetSettings.model_validate(SETTINGS)
    wanted = Assembled(dataset="made", parts=[digest] * 2, settings=settings, source=source, lineage=LINEAGE)
    with pytest.raises(errors.TooLarge):
        await small.make(Caller("blue", Role.EDITOR, "ada", "serving"), assembly, wanted)


async def test_an_existing_dataset_keeps_its_settings(serving: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    mine = (await client.post("/v1/datasets", json={"name": "made"})).json()["settings"]
    assembly = uuid.uuid4()
    made = await make(serving, assembly, [await bring(serving, assembly, part((1, 1.0)))])
    assert made.json()["settings"]["policy"] == "fail"
    assert (await client.get("/v1/datasets/made")).json()["settings"] == mine


async def test_rows_of_a_shard_are_those_of_the_page(
    serving: httpx2.AsyncClient, client: httpx2.AsyncClient, replica_of: ReplicaOf
) -> None:
    await client.post("/v1/datasets", json={"name": "people", "settings": {"split": {"held_out": 0.3}}})
    lines = "".join(f"{n},{n / 7},2020-01-01T00:00:{n % 60:02}Z,ü{n}\n" for n in range(300))
    await client.post(VERSIONS, content=f"id,x,at,name\n{lines}".encode(), headers={"content-type": "text/csv"})
    await replica_of().run()
    whole = (await client.get(f"{VERSIONS}/1/rows", params={"page_size": "1000"})).json()["items"]
    shards = (await client.get(f"{VERSIONS}/1/shards")).json()["shards"]
    found = []
    for shard in shards:
        path = f"/internal/v1/datasets/people/versions/1/shards/{shard['digest']}/rows"
        for start in range(0, shard["rows"], 70):
            answer = await serving.get(path, params={"start": str(start), "count": "70"})
            assert answer.headers["content-type"] == "application/x-ndjson"
            found += [json.loads(line) for line in answer.content.splitlines()]
    assert found == whole
    beyond = await serving.get(path, params={"start": str(shard["rows"])})
    assert (beyond.status_code, beyond.content) == (200, b"")
    strange = await serving.get(path.replace(shard["digest"], "sha256:" + "0" * 64))
    assert (strange.status_code, strange.json()["code"]) == (404, "shard-not-found")


async def test_a_damaged_shard_is_a_problem_before_its_first_row(
    serving: httpx2.AsyncClient, client: httpx2.AsyncClient, replica_of: ReplicaOf, store: BlobStore
) -> None:
    await client.post("/v1/datasets", json={"name": "people"})
    await client.post(VERSIONS, content=b"id\n1\n2\n", headers={"content-type": "text/csv"})
    await replica_of().run()
    [shard, *_] = (await client.get(f"{VERSIONS}/1/shards")).json()["shards"]
    await store.delete("blue", shard["digest"])
    answer = await serving.get(f"/internal/v1/datasets/people/versions/1/shards/{shard['digest']}/rows")
    assert answer.status_code == 502


async def test_only_serving_may(client: httpx2.AsyncClient) -> None:
    assembly = uuid.uuid4()
    assert (await make(client, assembly, ["sha256:" + "0" * 64])).status_code == 404
    assert (await client.delete(f"/internal/v1/assemblies/{assembly}")).status_code == 404
