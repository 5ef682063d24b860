"""The wire of quotas and usage: who sees and sets which, and what a job is refused for."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from jobs_at_work import begin, turn
from makers import add_job
from requests_made import BODY, queue
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.callers import Role
from kit.testing import KeyFolder, client_of
from trainer.domain.resources import Resources
from trainer.reconcile import Reconciler

LIMITS = {
    "cpu": 1.5,
    "memory": "2Gi",
    "gpu": 1,
    "jobs": 3,
    "priority": 10,
    "budget": {"core_hours": 12.5, "period": "week"},
}


@pytest.fixture
async def operator(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, key_folder.headers("trainer", role=Role.ADMIN, project="default")) as client:
        yield client


async def test_an_operator_sets_what_a_project_may_have(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    nothing = (await client.get("/v1/quotas/blue")).json()
    assert {name: nothing[name] for name in ("cpu", "memory", "gpu", "jobs", "priority", "waiting")} == {
        **dict.fromkeys(("cpu", "memory", "gpu", "jobs", "priority")),
        "waiting": 0,
    }
    answer = await operator.put("/v1/quotas/blue", json=LIMITS)
    assert answer.status_code == 200, answer.text
    seen = await client.get("/v1/quotas/blue")
    assert seen.json() == answer.json()
    assert {name: seen.json()[name] for name in ("cpu", "memory", "gpu", "jobs", "priority")} == {
        "cpu": 1.5,
        "memory": 2 << 30,
        "gpu": 1,
        "jobs": 3,
        "priority": 10,
    }
    budget = seen.json()["budget"]
    assert (budget["core_hours"], budget["period"], budget["spent"]) == (12.5, "week", 0)
    assert budget["since"] < budget["until"]
    stale = await operator.put("/v1/quotas/blue", json={}, headers={"if-match": '"another"'})
    assert stale.status_code == 412
    again = await operator.put("/v1/quotas/blue", json={}, headers={"if-match": seen.headers["etag"]})
    assert again.json()["cpu"] is None


async def test_everybody_sees_his_own_project_and_an_operator_all(
    app: Service, operator: httpx2.AsyncClient, client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    for project in ("blue", "red"):
        await operator.put(f"/v1/quotas/{project}", json={"jobs": 1})
    assert [each["project"] for each in (await client.get("/v1/quotas")).json()["items"]] == ["blue"]
    first = (await operator.get("/v1/quotas?page_size=1")).json()
    assert [each["project"] for each in first["items"]] == ["blue"]
    rest = (await operator.get(f"/v1/quotas?page_token={first['next_page_token']}")).json()
    assert [each["project"] for each in rest["items"]] == ["red"]
    assert (await client.get("/v1/quotas/red")).json()["code"] == "quota-not-found"
    assert (await client.get("/v1/usage?project=red")).status_code == 404
    assert (await operator.get("/v1/usage?project=red")).status_code == 200
    assert (await operator.get("/v1/quotas/NOT%20ONE")).status_code == 404
    async with client_of(app, key_folder.headers("trainer", role=Role.ADMIN, project="blue")) as admin:
        refused = await admin.put("/v1/quotas/blue", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "operator-only")
        assert (await admin.put("/v1/quotas/red", json={})).status_code == 404
    async with client_of(app, key_folder.headers("trainer", role=Role.EDITOR, project="default")) as editor:
        assert (await editor.put("/v1/quotas/blue", json={})).status_code == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"cpu": -1}, "#/cpu"),
        ({"memory": "much"}, "#/memory"),
        ({"jobs": 1.5}, "#/jobs"),
        ({"budget": {"core_hours": 1, "period": "year"}}, "#/budget/period"),
        ({"disk": 1}, "#/disk"),
    ],
)
async def test_what_is_no_quota_is_refused(operator: httpx2.AsyncClient, body: dict[str, Any], pointer: str) -> None:
    answer = await operator.put("/v1/quotas/blue", json=body)
    assert answer.status_code == 422, answer.text
    assert pointer in [place["pointer"] for place in answer.json()["errors"]]


async def test_a_job_that_could_never_begin_is_refused(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    await operator.put("/v1/quotas/blue", json=LIMITS)
    beyond = await client.post("/v1/jobs", json=BODY | {"resources": {"cpu": 2, "memory": "1Gi"}})
    assert (beyond.status_code, beyond.json()["code"]) == (409, "quota-exceeded")
    assert "2 cpu of 1.5 cpu" in beyond.json()["detail"]
    high = await client.post("/v1/jobs", json=BODY | {"priority": 11, "resources": {"memory": "1Gi"}})
    assert (high.status_code, high.json()["code"]) == (422, "priority-too-high")
    taken = await client.post("/v1/jobs", json=BODY | {"priority": 10, "resources": {"memory": "1Gi", "gpu": 1}})
    assert taken.status_code == 202, taken.text
    assert taken.json()["resources"] == {"cpu": 1, "memory": 1 << 30, "gpu": 1}
    assert taken.json()["priority"] == 10


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"priority": 101}, "#/priority"),
        ({"resources": {"cpu": 0}}, "#/resources/cpu"),
        ({"resources": {"gpu": -1}}, "#/resources/gpu"),
        ({"resources": {"memory": "2 GB"}}, "#/resources/memory"),
        ({"resources": {"memory": "0"}}, "#/resources/memory"),
        ({"resources": {"disk": 1}}, "#/resources/disk"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_with_its_place(
    client: httpx2.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/jobs", json=BODY | change)
    assert answer.status_code == 422, answer.text
    assert any(place["pointer"].endswith(pointer.removeprefix("#")) for place in answer.json()["errors"])


@pytest.mark.usefixtures("world")
async def test_a_waiting_job_says_where_it_stands(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, engine: AsyncEngine, worker: Reconciler
) -> None:
    await operator.put("/v1/quotas/blue", json={"jobs": 1})
    jobs = []
    for _ in range(3):
        jobs.append(await add_job(engine))
        await turn(engine, worker)
    said = [(await client.get(f"/v1/jobs/{job.id}")).json()["status"] for job in jobs]
    assert [(each["reason"], each["position"]) for each in said] == [
        ("waiting-for-runner", 1),
        ("waiting-for-quota", 1),
        ("waiting-for-quota", 2),
    ]
    quota = (await client.get("/v1/quotas/blue")).json()
    assert (quota["used"]["jobs"], quota["waiting"]) == (1, 2)


@pytest.mark.usefixtures("world")
async def test_usage_is_shown_by_day_and_author(
    client: httpx2.AsyncClient, engine: AsyncEngine, worker: Reconciler
) -> None:
    job = await add_job(engine, resources=Resources(cpu_millis=2000))
    await turn(engine, worker)
    await begin(engine, job)
    found = (await client.get("/v1/usage?by=subject")).json()
    assert [each["name"] for each in found["items"]] == ["ada"]
    assert found["total"]["core_hours"] == pytest.approx(found["items"][0]["core_hours"], abs=1e-3)
    assert found["total"]["attempts"] == 0
    assert (await client.get("/v1/usage?first=2026-01-02&last=2026-01-01")).json()["code"] == "usage-invalid"
    assert (await client.get("/v1/usage?first=2020-01-01&last=2026-01-01")).status_code == 422
    assert timedelta(0) < timedelta(hours=found["total"]["core_hours"])


async def test_a_runner_is_given_what_its_host_has_room_for(
    engine: AsyncEngine, app: Service, key_folder: KeyFolder
) -> None:
    asks = (Resources(gpus=1), Resources(cpu_millis=2000), Resources())
    jobs = [await add_job(engine, resources=each) for each in asks]
    for job in jobs:
        await queue(engine, job)
    headers = key_folder.headers("trainer", issuer="trainer", role=Role.VIEWER, project="system")
    async with client_of(app, headers) as runner:

        async def take(**room: int) -> list[dict[str, Any]]:
            body = {"host": "h1", "slots": 2, "holding": [], "room": room}
            given: list[dict[str, Any]] = (await runner.post("/internal/v1/leases", json=body)).json()["attempts"]
            return given

        assert await take(cpu_millis=2000, free_cpu_millis=1000, gpus=0, free_gpus=0) == []
        [large] = await take(cpu_millis=2000, free_cpu_millis=2000, gpus=0, free_gpus=0)
        assert (large["job"], large["cpu_millis"], large["gpus"]) == (str(jobs[1].id), 2000, 0)
