"""The wire of jobs: what is taken, what is refused and how, who may ask."""

from typing import Any

import httpx2
import pytest
from makers import add_job
from requests_made import BODY, TREE, grant, settle
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.callers import Role
from kit.testing import KeyFolder, client_of, undeclared, unguarded
from trainer.app import create_app
from trainer.domain.jobs import NO_REASON, Phase, Why
from trainer.settings import Settings
from trainyard.results import Job

ANSWERED = {
    "dataset": "flights@3",
    "dataset_digest": None,
    "task": "classification",
    "target": "late",
    "features": ["hour", "carrier"],
    "estimator": {"class": TREE, "parameters": {"max_depth": 3}},
    "preprocessing": {"numeric": "auto", "categories": "auto", "add_indicator": False},
    "baseline": ["carrier"],
    "seed": 0,
    "retries": 2,
    "deadline": "600s",
    "register": {"model": "delays"},
    "status": {"phase": "pending", "reason": "waiting-for-dataset", "message": "", "hint": ""},
    "attempt": 0,
    "progress": None,
    "metrics": {},
    "model": None,
    "started_at": None,
    "finished_at": None,
}


async def test_a_job_is_taken_and_can_be_looked_at(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=BODY)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert {name: job[name] for name in ANSWERED} == ANSWERED
    assert (await client.get(f"/v1/jobs/{job['id']}")).json() == job
    assert Job.of(job).phase == "pending"  # the client reads it


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"estimator": {"class": "sklearn.svm.OneClassSVM"}}, "#/estimator/class"),
        ({"estimator": {"class": TREE, "parameters": {"max_depth": 0}}}, "#/estimator/parameters/max_depth"),
        ({"estimator": {"class": TREE, "parameters": {"n_jobs": 4}}}, "#/estimator/parameters/n_jobs"),
        ({"preprocessing": {"numeric": "guess"}}, "#/preprocessing/numeric"),
        ({"dataset": "no such name"}, "#/dataset"),
        ({"task": "clustering"}, "#/task"),
        ({"target": ""}, "#/target"),
        ({"features": ["late"]}, "#/features/0"),
        ({"features": []}, "#/features"),
        ({"seed": "7"}, "#/seed"),
        ({"seed": True}, "#/seed"),
        ({"retries": 11}, "#/retries"),
        ({"deadline": "soon"}, "#/deadline"),
        ({"deadline": "500ms"}, "#/deadline"),
        ({"register": {"model": "UPPER"}}, "#/register/model"),
        ({"register": {"name": "delays"}}, "#/register/model"),
        ({"epochs": 3}, "#/epochs"),
    ],
)
async def test_what_cannot_work_is_refused_with_its_place(
    client: httpx2.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/jobs", json=BODY | change)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer in [place["pointer"] for place in answer.json()["errors"]]
    assert (await client.get("/v1/jobs")).json()["items"] == []


async def test_the_same_key_is_one_job_and_another_body_under_it_is_refused(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k1"}
    first = await client.post("/v1/jobs", json=BODY, headers=headers)
    again = await client.post("/v1/jobs", json=BODY, headers=headers)
    assert again.json() == first.json()
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    other = await client.post("/v1/jobs", json=BODY | {"seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len((await client.get("/v1/jobs")).json()["items"]) == 1


async def test_a_refused_job_does_not_use_up_its_key(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k2"}
    refused = await client.post("/v1/jobs", json=BODY | {"dataset": "?"}, headers=headers)
    assert refused.status_code == 422
    assert (await client.post("/v1/jobs", json=BODY, headers=headers)).status_code == 202


async def test_jobs_are_listed_in_pages_the_newest_first(client: httpx2.AsyncClient) -> None:
    made = [(await client.post("/v1/jobs", json=BODY)).json()["id"] for _ in range(3)]
    first = (await client.get("/v1/jobs", params={"page_size": 2})).json()
    rest = (await client.get("/v1/jobs", params={"page_token": first["next_page_token"]})).json()
    assert [job["id"] for job in first["items"] + rest["items"]] == made[::-1]
    assert rest["next_page_token"] is None


async def test_a_page_token_of_another_list_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/jobs", params={"page_token": "MTEy"})
    assert (answer.status_code, answer.json()["code"]) == (422, "page-token-invalid")


async def test_a_cancel_is_taken_once_and_again_and_not_after_the_end(
    client: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    for _ in range(2):
        assert (await client.post(f"/v1/jobs/{job.id}/cancel")).status_code == 202
    await settle(engine, job, Phase.CANCELLED, NO_REASON)
    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-finished")


async def test_a_job_is_deleted_once_it_has_ended(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    running = await client.delete(f"/v1/jobs/{job.id}")
    assert (running.status_code, running.json()["code"]) == (409, "job-running")
    await settle(engine, job, Phase.FAILED, Why())
    assert (await client.delete(f"/v1/jobs/{job.id}")).status_code == 204
    for verb, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/logs"), ("GET", "/metrics")):
        answer = await client.request(verb, f"/v1/jobs/{job.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")


async def test_a_long_poll_is_answered_when_the_job_has_ended(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    assert (await client.get(f"/v1/jobs/{job.id}?wait=200ms")).json()["status"]["phase"] == "pending"
    await settle(engine, job, Phase.SUCCEEDED, NO_REASON)
    ended = (await client.get(f"/v1/jobs/{job.id}?wait=30s")).json()
    assert (ended["status"]["phase"], ended["metrics"]) == ("succeeded", {"roc_auc": 0.7})
    assert ended["finished_at"] is not None


async def test_a_running_job_says_what_its_program_does(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    granted = await grant(engine, job)
    progress = {"stage": "fitting", "fraction": 0.5}
    path = f"/internal/v1/attempts/{granted.attempt.id}/heartbeat"
    await client.post(path, json={"progress": progress}, headers={"authorization": f"Bearer {granted.token}"})
    found = (await client.get(f"/v1/jobs/{job.id}")).json()
    assert (found["status"]["phase"], found["progress"], found["attempt"]) == ("running", progress, 1)
    assert (found["dataset"], found["dataset_digest"]) == ("flights@3", "sha256:" + "d" * 64)


async def test_another_project_s_job_is_not_there(app: Service, engine: AsyncEngine, key_folder: KeyFolder) -> None:
    job = await add_job(engine)
    async with client_of(app, key_folder.headers("trainer", project="red", role=Role.ADMIN)) as stranger:
        for verb, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/logs"), ("GET", "/metrics")):
            answer = await stranger.request(verb, f"/v1/jobs/{job.id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
        assert (await stranger.get("/v1/jobs")).json()["items"] == []


async def test_a_viewer_looks_and_changes_nothing(app: Service, engine: AsyncEngine, key_folder: KeyFolder) -> None:
    job = await add_job(engine)
    async with client_of(app, key_folder.headers("trainer", project="blue", role=Role.VIEWER)) as viewer:
        assert (await viewer.get(f"/v1/jobs/{job.id}")).status_code == 200
        assert (await viewer.get(f"/v1/jobs/{job.id}/logs")).status_code == 200
        assert (await viewer.post("/v1/jobs", json=BODY)).status_code == 403
        assert (await viewer.post(f"/v1/jobs/{job.id}/cancel")).status_code == 403
        assert (await viewer.delete(f"/v1/jobs/{job.id}")).status_code == 403


async def test_every_route_asks_who_is_there(app: Service) -> None:
    assert await unguarded(app) == []
    assert undeclared(app) == []


async def test_what_is_done_is_written_down_in_the_audit(
    app: Service, client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    id = (await client.post("/v1/jobs", json=BODY)).json()["id"]
    await client.post(f"/v1/jobs/{id}/cancel")
    headers = key_folder.headers("trainer", project="blue", role=Role.ADMIN)
    entries = (await client.get("/internal/v1/audit", headers=headers)).json()["items"]
    assert [(entry["action"], entry["name"], entry["subject"]) for entry in entries] == [
        ("cancel", id, "ada"),
        ("create", id, "ada"),
    ]


async def test_the_openapi_document_names_what_users_may_call(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    wanted = {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/cancel"}
    assert wanted | {"/v1/jobs/{job_id}/logs", "/v1/jobs/{job_id}/metrics"} <= set(paths)
    assert not [path for path in paths if path.startswith("/internal/v1/leases")]


async def test_a_job_without_a_database_is_a_503(settings: Settings, key_folder: KeyFolder) -> None:
    away = settings.model_copy(
        update={"database_url": type(settings.database_url)("postgresql+psycopg://x@/x?host=/no")}
    )
    async with client_of(create_app(away), key_folder.headers("trainer")) as client:
        answer = await client.post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
