"""What pods read and hand over with their attempt's token: their own, and nothing else."""

import hashlib
import uuid
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from attempts_at_work import flights
from makers import add_job, result_of
from neighbours import Neighbours
from requests_made import TTL, queue
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.testing import KeyFolder, client_of
from trainer import actions
from trainer.app import create_app
from trainer.domain.attempts import AttemptResult, Outcome
from trainer.domain.leased import AttemptPhase
from trainer.settings import Settings
from trainer.store import tables
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.jobs import JobStore

CONTENT = b"the model"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
async def app(engine: AsyncEngine, settings: Settings, neighbours: Neighbours) -> Service:
    return create_app(settings.model_copy(update={"ingest_url": neighbours.url}))


@pytest.fixture
async def granted(engine: AsyncEngine, neighbours: Neighbours) -> Granted:
    """An attempt of a job on a version that ingest has."""
    neighbours.add_version(train=flights(20), held_out=flights(10, 1))
    job = await add_job(engine)
    await queue(engine, job)
    async with engine.begin() as connection:
        known = {"pinned_digest": neighbours.versions["flights@3"]["digest"]}
        await connection.execute(sa.update(tables.jobs).values(known))
        [granted] = await AttemptStore(connection).lease("h1", 1, ttl=TTL)
        await JobStore(connection).begin(job.project, job.id)
    return granted


class Pod:
    """Asks as a pod does."""

    def __init__(self, client: httpx2.AsyncClient, granted: Granted, name: str = "") -> None:
        self.client = client
        self.granted = granted
        self.token = granted.token + name

    async def ask(self, method: str, path: str, attempt: uuid.UUID | None = None, **given: Any) -> httpx2.Response:
        url = f"/internal/v1/attempts/{attempt or self.granted.attempt.id}/{path}"
        return await self.client.request(method, url, headers={"authorization": f"Bearer {self.token}"}, **given)


@pytest.fixture
def pod(client: httpx2.AsyncClient, granted: Granted) -> Pod:
    return Pod(client, granted)


async def test_a_pod_reads_its_own_work(pod: Pod, neighbours: Neighbours) -> None:
    work = (await pod.ask("GET", "work")).json()
    assert (work["dataset"], work["number"], work["secrets"]) == ("flights@3", 1, {})
    assert work["spec"]["estimator"]["class"] == "sklearn.tree.DecisionTreeClassifier"
    assert {each["split"] for each in work["shards"]} == {"train", "held_out"}
    assert {each["name"] for each in work["columns"]} >= {"hour", "late"}
    for shard in work["shards"]:
        read = await pod.ask("GET", f"inputs/{shard['digest']}")
        assert f"sha256:{hashlib.sha256(read.content).hexdigest()}" == shard["digest"]


async def test_and_nothing_of_others(pod: Pod) -> None:
    other = uuid.uuid4()
    for method, path in (("GET", "work"), ("GET", f"inputs/{DIGEST}"), ("GET", "bundle")):
        assert (await pod.ask(method, path, attempt=other)).status_code == 404
    for path in (f"outputs/{DIGEST}", "result"):
        assert (await pod.ask("PUT", path, attempt=other, json={})).status_code == 404
    assert (await pod.ask("GET", f"inputs/{DIGEST}")).status_code == 404  # no shard of this version
    assert (await pod.ask("GET", "bundle")).status_code == 404  # it runs none


async def test_outputs_and_a_result_count_when_the_runner_says_that_it_was_the_end(
    pod: Pod, engine: AsyncEngine, granted: Granted
) -> None:
    assert (await pod.ask("PUT", f"outputs/{DIGEST}", content=b"other")).json()["code"] == "digest-mismatch"
    assert (await pod.ask("PUT", f"outputs/{DIGEST}", content=CONTENT)).status_code == 204
    assert (await pod.ask("PUT", "result", json={"outcome": "won"})).json()["code"] == "result-invalid"
    result = result_of([("skops", "model.skops", DIGEST, len(CONTENT))])
    assert (await pod.ask("PUT", "result", json=result.to_json())).status_code == 204
    attempt = await finish(engine, granted, exit_code=137)
    assert attempt.phase is AttemptPhase.SUCCEEDED


async def test_that_a_pod_was_stopped_is_the_runners_to_say(pod: Pod, engine: AsyncEngine, granted: Granted) -> None:
    stopped = AttemptResult(outcome=Outcome.STOPPED)
    assert (await pod.ask("PUT", "result", json=stopped.to_json())).status_code == 204
    attempt = await finish(engine, granted, exit_code=1)
    assert attempt.phase is AttemptPhase.FAILED


async def finish(engine: AsyncEngine, granted: Granted, *, exit_code: int) -> Any:
    of = granted.attempt
    async with engine.begin() as connection:
        await actions.finish_attempt(
            connection, of.project, of.id, fence=of.fence, exit_code=exit_code, result=None, failure=None
        )
        return await AttemptStore(connection).get(of.project, of.id)


async def test_each_pod_counts_its_own_lines(client: httpx2.AsyncClient, granted: Granted) -> None:
    line = {"number": 1, "at": "2030-01-01T00:00:00Z", "level": "info", "message": "hello"}
    point = {"number": 1, "at": "2030-01-01T00:00:00Z", "name": "loss", "value": 0.5, "step": 3}
    for name in ("", ".0-aaa", ".1-bbb", ".1-bbb"):
        pod = Pod(client, granted, name)
        assert (await pod.ask("POST", "logs", json={"entries": [line]})).status_code == 204
        assert (await pod.ask("POST", "metrics", json={"points": [point]})).status_code == 204
    job = granted.attempt.job_id
    lines = (await client.get(f"/v1/jobs/{job}/logs")).json()["items"]
    assert [each["source"] for each in lines] == ["job", "job/0-aaa", "job/1-bbb"]
    assert len((await client.get(f"/v1/jobs/{job}/metrics")).json()["items"]) == 3
    assert (await Pod(client, granted, ".x/..").ask("GET", "work")).status_code == 401


async def test_a_version_that_was_deleted_is_said(pod: Pod, neighbours: Neighbours) -> None:
    neighbours.versions.clear()
    assert (await pod.ask("GET", "work")).status_code == 404


async def test_a_user_has_no_business_there(app: Service, granted: Granted, key_folder: KeyFolder) -> None:
    async with client_of(app, key_folder.headers("trainer", project="blue")) as client:
        answer = await client.get(f"/internal/v1/attempts/{granted.attempt.id}/work")
        assert answer.status_code in (401, 403)
