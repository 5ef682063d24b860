"""The wire of bundles and of jobs that run them."""

import io
import uuid
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from bundles_at_work import archive_of, digest_of
from makers import add_job
from requests_made import grant
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.blobs import BlobStore
from kit.callers import Role
from kit.tables import blob_links
from kit.testing import KeyFolder, client_of
from trainer import bundling
from trainer.domain.attempts import AttemptResult, Outcome
from trainer.domain.rooms import Room
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.jobs import JobStore
from trainer.store.tables import bundles as bundles_table
from trainyard.results import Job

ARCHIVE = archive_of({"train.py": "print(1)", "lib/own.py": ""})
DIGEST = digest_of(ARCHIVE)
BODY: dict[str, Any] = {
    "kind": "bundle",
    "bundle": DIGEST,
    "entrypoint": "train.py",
    "arguments": ["--fast"],
    "parameters": {"lr": 0.1},
    "nproc": 2,
    "nodes": {"min": 1, "max": 2},
    "resources": {"cpu": 2, "memory": "1Gi"},
    "log_policies": [{"pattern": "NCCL", "action": "retry"}],
    "register": {"model": "digits"},
    "env": {"COLOUR": "blue"},
}


async def put(client: httpx2.AsyncClient, archive: bytes = ARCHIVE, digest: str | None = None) -> httpx2.Response:
    return await client.put(f"/v1/bundles/{digest or digest_of(archive)}", content=archive)


async def test_a_bundle_is_sent_once_and_can_be_found(client: httpx2.AsyncClient) -> None:
    assert (await client.get(f"/v1/bundles/{DIGEST}")).json()["code"] == "bundle-not-found"
    for _ in range(2):
        answer = await put(client)
        assert (answer.status_code, answer.json()) == (200, {"digest": DIGEST, "size": len(ARCHIVE), "files": 2})
    assert (await client.get(f"/v1/bundles/{DIGEST}")).json() == answer.json()


async def test_a_zip_is_a_bundle_too(client: httpx2.AsyncClient) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("train.py", "print(1)")
    assert (await put(client, packed.getvalue())).json()["files"] == 1


async def test_what_is_no_bundle_is_refused_and_not_kept(
    client: httpx2.AsyncClient, app: Service, key_folder: KeyFolder, engine: AsyncEngine
) -> None:
    assert (await put(client, b"hello")).json()["code"] == "bundle-invalid"
    assert (await put(client, archive_of({"../x": ""}))).json()["code"] == "bundle-invalid"
    assert (await put(client, digest="sha256:" + "0" * 64)).json()["code"] == "bundle-differs"
    assert (await client.put("/v1/bundles/sha256:x", content=b"")).status_code == 422
    huge = httpx2.Headers({"content-length": str(65 << 20)})
    assert (await client.put(f"/v1/bundles/{DIGEST}", content=b"", headers=huge)).status_code in (400, 413)
    async with client_of(app, key_folder.headers("trainer", project="blue", role=Role.VIEWER)) as viewer:
        assert (await put(viewer)).status_code == 403
    async with engine.begin() as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(bundles_table))).scalar_one() == 0


async def test_a_body_without_an_end_is_cut_off(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "MAX_BYTES", 10)
    assert (await put(client)).status_code == 413
    monkeypatch.undo()
    monkeypatch.setattr(bundling, "MOST", 0)
    assert (await put(client)).json()["code"] == "too-many-bundles"


async def test_a_job_runs_a_bundle_that_is_there(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", json=BODY)).json()["code"] == "bundle-not-found"
    await put(client)
    answer = await client.post("/v1/jobs", json=BODY)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["dataset"], job["task"], job["estimator"], job["seed"]) == ("bundle", "", "", {}, 0)
    assert job["bundle"] == {
        "bundle": DIGEST,
        "entrypoint": "train.py",
        "arguments": ["--fast"],
        "parameters": {"lr": 0.1},
        "nproc": 2,
        "nodes": {"min": 1, "max": 2},
        "secrets": [],
        "log_policies": [{"pattern": "NCCL", "action": "retry"}],
        "env": {"COLOUR": "blue"},
    }
    assert job["deadline"] == "3600s"
    assert (await client.get(f"/v1/jobs/{job['id']}")).json() == job
    assert Job.of(job).phase == "pending"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"entrypoint": "other.py"}, "#/entrypoint"),
        ({"entrypoint": "../train.py"}, "#/entrypoint"),
        ({"entrypoint": "README"}, "#/entrypoint"),
        ({"nodes": {"min": 3, "max": 2}}, "#/nodes"),
        ({"env": {"LD_PRELOAD": "x"}}, "#/env"),
        ({"env": {"rank": "x"}}, "#/env"),
        ({"env": {"A": "x" * 70_000}}, "#/env"),
        ({"arguments": ["x" * 40_000, "x" * 40_000]}, "#/arguments"),
        ({"log_policies": [{"pattern": "**", "action": "fail"}]}, "#/log_policies/0/pattern"),
        ({"log_policies": [{"pattern": "x", "action": "explode"}]}, "#/log_policies/0/action"),
        ({"deadline": "8d"}, "#/deadline"),
        ({"nproc": 0}, "#/nproc"),
        ({"task": "classification"}, "#/task"),
        ({"kind": "other"}, "#"),
        ({"kind": 7}, "#"),
        ({"resources": {"memory": "much"}}, "#/resources/memory"),
    ],
)
async def test_a_job_that_cannot_work_is_refused_where_it_cannot(
    client: httpx2.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    await put(client)
    answer = await client.post("/v1/jobs", json=BODY | change)
    assert answer.status_code == 422
    assert pointer in [place["pointer"] for place in answer.json()["errors"]], answer.text


async def test_bundles_go_that_nobody_uses_but_not_from_jobs_that_have_them(
    client: httpx2.AsyncClient, engine: AsyncEngine, store: BlobStore
) -> None:
    await put(client)
    job = (await client.post("/v1/jobs", json=BODY)).json()
    assert await bundling.retire(engine, timedelta(days=1)) == 0
    assert await bundling.retire(engine, timedelta(0), limit=1) == 1
    async with engine.begin() as connection:
        owners = (await connection.execute(sa.select(blob_links.c.owner))).scalars().all()
    assert owners == [f"job:{job['id']}"]


async def attempt_at(
    engine: AsyncEngine, job: dict[str, Any], host: str = "h1", number: int = 1, room: Room | None = None
) -> Granted | None:
    """An attempt at the job for that host, if it is let have it."""
    async with engine.begin() as connection:
        found = await JobStore(connection).get("blue", uuid.UUID(job["id"]))
        attempts = AttemptStore(connection)
        if (newest := await attempts.newest(found)) is None or newest.number < number:
            await attempts.queue(found, number)
        return next(iter(await attempts.lease(host, 1, ttl=timedelta(seconds=20), room=room)), None)


@pytest.fixture
async def runner(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, key_folder.headers("trainer", issuer="trainer", project="blue")) as client:
        yield client


async def test_a_runner_is_given_the_archive_while_the_attempt_is_its_own(
    client: httpx2.AsyncClient, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    await put(client)
    granted = await attempt_at(engine, (await client.post("/v1/jobs", json=BODY)).json())
    assert granted is not None
    path = f"/internal/v1/leases/{granted.attempt.id}/bundle"
    assert (await runner.get(path, params={"fence": 1})).content == ARCHIVE
    assert (await runner.get(path, params={"fence": 2})).json()["code"] == "stale-fence"
    own = (await grant(engine, await add_job(engine))).attempt
    refused = await runner.get(f"/internal/v1/leases/{own.id}/bundle", params={"fence": own.fence})
    assert refused.json()["code"] == "bundle-not-found"


async def test_an_attempt_at_a_bundle_may_end_without_a_model_and_says_how_it_failed(
    client: httpx2.AsyncClient, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    await put(client)
    ends: list[tuple[dict[str, Any], str]] = [
        (AttemptResult(outcome=Outcome.SUCCEEDED, metrics={"loss": 1.0}).to_json(), "succeeded"),
        (AttemptResult(outcome=Outcome.FAILED, reason="non-finite", message="m", hint="h").to_json(), "failed"),
    ]
    for result, phase in ends:
        granted = await attempt_at(engine, (await client.post("/v1/jobs", json=BODY)).json())
        assert granted is not None
        body = {"fence": 1, "exit_code": 0, "result": result, "failure": None}
        path = f"/internal/v1/leases/{granted.attempt.id}/finish"
        wrong = await runner.post(path, json=body | {"result": result | {"outcome": "failed", "reason": "odd"}})
        assert wrong.json()["code"] == "result-invalid"
        assert (await runner.post(path, json=body)).status_code == 204
        async with engine.begin() as connection:
            found = await AttemptStore(connection).get("blue", granted.attempt.id)
        assert (found.phase, found.why.reason) == (phase, result["reason"])


async def test_a_host_that_was_excluded_is_given_the_job_no_more(
    client: httpx2.AsyncClient, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    await put(client)
    job = (await client.post("/v1/jobs", json=BODY)).json()
    granted = await attempt_at(engine, job)
    assert granted is not None
    result = AttemptResult(outcome=Outcome.FAILED, reason="node-excluded", message="m", hint="h").to_json()
    body = {"fence": 1, "exit_code": 1, "result": result, "failure": None}
    await runner.post(f"/internal/v1/leases/{granted.attempt.id}/finish", json=body)
    assert await attempt_at(engine, job, number=2) is None
    assert await attempt_at(engine, job, "h2", number=2) is not None


async def test_a_host_of_its_own_is_given_no_job_that_needs_several(
    client: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    await put(client)
    one = Room(cpu_millis=8000, free_cpu_millis=8000)
    several: list[tuple[Any, bool]] = [
        (1, True),
        (2, False),
        ({"min": 2, "max": 3}, False),
        ({"min": 1, "max": 2}, True),
    ]
    for nodes, may in several:
        job = (await client.post("/v1/jobs", json=BODY | {"nodes": nodes})).json()
        assert (await attempt_at(engine, job, room=one) is not None) == may, nodes
        if not may:
            assert await attempt_at(engine, job) is not None
