"""The wire of sweeps: what is taken, what is refused and where, who may ask."""

from typing import Any

import httpx2
import pytest
from requests_made import BODY, TREE
from sqlalchemy.ext.asyncio import AsyncEngine
from sweeps_at_work import DEPTHS, SWEEP, add_sweep, hill, look_at, run_all, turn_sweeps

from kit.app import Service
from kit.callers import Role
from kit.testing import KeyFolder, client_of
from trainer.domain.sweeps import Budget
from trainer.sweeping.reconcile import Sweeping
from trainyard import sweep_results as results

BUNDLE = {"kind": "bundle", "bundle": "sha256:" + "b" * 64, "entrypoint": "train.py"}
ANSWERED: dict[str, Any] = {
    "objective": {"metric": "roc_auc", "direction": "maximize"},
    "algorithm": {"method": "tpe", "seed": 0, "startup": 10},
    "pruning": None,
    "parallelism": 1,
    "budget": {"trials": 4, "time": None, "core_hours": None},
    "failures": 5,
    "status": {"phase": "running", "reason": "", "message": "", "hint": ""},
    "counts": {"running": 0, "succeeded": 0, "pruned": 0, "failed": 0, "cancelled": 0},
    "best": None,
    "importance": {},
    "core_hours": 0.0,
    "model": None,
    "finished_at": None,
}


async def test_a_sweep_is_taken_and_can_be_looked_at(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/sweeps", json=SWEEP)
    assert answer.status_code == 202, answer.text
    sweep = answer.json()
    assert answer.headers["location"] == f"/v1/sweeps/{sweep['id']}"
    assert {name: sweep[name] for name in ANSWERED} == ANSWERED
    assert sweep["job"]["estimator"] == BODY["estimator"]
    assert sweep["job"]["register"] == {"model": "delays"}
    assert sweep["space"]["max_depth"] == {"type": "int", "low": 1, "high": 10, "step": 1, "log": False}
    assert (await client.get(f"/v1/sweeps/{sweep['id']}")).json() == sweep | {"trials": []}
    assert (await client.get("/v1/sweeps")).json()["items"] == [sweep]
    assert results.Sweep.of(sweep).phase == "running"  # the client reads it


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"job": BODY | {"dataset": "no such name"}}, "#/job/dataset"),
        ({"job": BODY | {"deadline": "100ms"}}, "#/job/deadline"),
        ({"job": BODY | {"register": {"model": "UPPER"}}}, "#/job/register/model"),
        ({"job": BODY | {"estimator": {"class": "sklearn.svm.Nothing"}}}, "#/job/estimator/class"),
        (
            {"job": BODY | {"estimator": {"class": TREE, "parameters": {"n_jobs": 2}}}},
            "#/job/estimator/parameters/n_jobs",
        ),
        ({"space": {}}, "#/space"),
        ({"space": {"max_depth": {"type": "int", "low": 0, "high": 3}}}, "#/space/max_depth"),
        ({"space": {"max_depth": {"type": "int", "low": 1, "high": 3, "log": 1}}}, "#/space/max_depth/int/log"),
        ({"space": {"max_depth": {"type": "int", "low": 4, "high": 3}}}, "#/space/max_depth"),
        ({"space": {"max_depth": {"type": "int", "low": 1, "high": 2**60}}}, "#/space/max_depth"),
        ({"space": DEPTHS | {"n_jobs": {"type": "int", "low": 1, "high": 2}}}, "#/space/n_jobs"),
        ({"space": {"ccp_alpha": {"type": "float", "low": 0.0, "high": 1.0, "log": True}}}, "#/space/ccp_alpha"),
        (
            {"space": {"ccp_alpha": {"type": "float", "low": 0.1, "high": 1, "log": True, "step": 0.1}}},
            "#/space/ccp_alpha",
        ),
        ({"space": {"criterion": {"type": "categorical", "choices": ["gini", "guess"]}}}, "#/space/criterion"),
        ({"space": {"criterion": {"type": "categorical", "choices": ["gini", "gini"]}}}, "#/space/criterion"),
        ({"space": {"criterion": {"type": "categorical", "choices": []}}}, "#/space/criterion/categorical/choices"),
        ({"algorithm": {"method": "grid"}}, "#/space"),
        ({"algorithm": {"method": "guess"}}, "#/algorithm/method"),
        ({"objective": {"metric": "roc_auc", "direction": "up"}}, "#/objective/direction"),
        ({"pruning": {"reduction": 1}}, "#/pruning/reduction"),
        ({"parallelism": 65}, "#/parallelism"),
        ({"budget": {"trials": 1001}}, "#/budget/trials"),
        ({"budget": {"time": "soon"}}, "#/budget/time"),
        ({"budget": {"time": "30d"}}, "#/budget/time"),
        ({"budget": {"core_hours": 0}}, "#/budget/core_hours"),
        ({"failures": 0}, "#/failures"),
        ({"epochs": 3}, "#/epochs"),
    ],
)
async def test_what_cannot_work_is_refused_with_its_place(
    client: httpx2.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/sweeps", json=SWEEP | change)
    assert answer.status_code == 422, answer.text
    assert pointer in [place["pointer"] for place in answer.json()["errors"]], answer.text
    assert (await client.get("/v1/sweeps")).json()["items"] == []


async def test_a_sweep_over_a_bundle_that_is_not_there_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/sweeps", json=SWEEP | {"job": BUNDLE})
    assert (answer.status_code, answer.json()["code"]) == (404, "bundle-not-found")
    wrong = await client.post("/v1/sweeps", json=SWEEP | {"job": BUNDLE | {"entrypoint": "train.sh"}})
    assert [place["pointer"] for place in wrong.json()["errors"]] == ["#/job/entrypoint"]


async def test_the_same_key_is_one_sweep(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k1"}
    first = await client.post("/v1/sweeps", json=SWEEP, headers=headers)
    again = await client.post("/v1/sweeps", json=SWEEP, headers=headers)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    other = await client.post("/v1/sweeps", json=SWEEP | {"parallelism": 2}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


async def test_sweeps_are_listed_in_pages_the_newest_first(client: httpx2.AsyncClient) -> None:
    made = [(await client.post("/v1/sweeps", json=SWEEP)).json()["id"] for _ in range(3)]
    first = (await client.get("/v1/sweeps", params={"page_size": 2})).json()
    rest = (await client.get("/v1/sweeps", params={"page_token": first["next_page_token"]})).json()
    assert [sweep["id"] for sweep in first["items"] + rest["items"]] == made[::-1]
    answer = await client.get("/v1/sweeps", params={"page_token": "MTEy"})
    assert (answer.status_code, answer.json()["code"]) == (422, "page-token-invalid")


async def test_a_sweep_at_its_end_shows_its_trials_and_the_best(
    client: httpx2.AsyncClient, engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine, budget=Budget(6), parallelism=2)
    _, trials = await run_all(engine, sweeping, sweep, hill)
    shown = (await client.get(f"/v1/sweeps/{sweep.id}?wait=30s")).json()
    assert shown["status"]["phase"] == "succeeded"
    assert shown["counts"] == ANSWERED["counts"] | {"succeeded": 6}
    best = max(trials, key=lambda trial: trial.value or 0)
    assert shown["best"] == {
        "number": best.number,
        "job": str(best.job_id),
        "value": best.value,
        "parameters": best.parameters,
    }
    assert sum(shown["importance"].values()) == pytest.approx(1)
    assert [trial["number"] for trial in shown["trials"]] == list(range(6))
    assert [trial.value for trial in results.Sweep.of(shown).trials] == [trial.value for trial in trials]
    assert {"phase", "parameters", "value", "step", "seconds", "message"} < set(shown["trials"][0])
    listed = (await client.get("/v1/sweeps")).json()["items"]
    assert listed == [{name: value for name, value in shown.items() if name != "trials"}]


async def test_a_cancel_is_taken_and_not_after_the_end(
    client: httpx2.AsyncClient, engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine)
    for _ in range(2):
        assert (await client.post(f"/v1/sweeps/{sweep.id}/cancel")).status_code == 202
    running = await client.delete(f"/v1/sweeps/{sweep.id}")
    assert (running.status_code, running.json()["code"]) == (409, "sweep-running")
    await turn_sweeps(engine, sweeping)
    assert (await look_at(engine, sweep))[0].phase == "cancelled"
    answer = await client.post(f"/v1/sweeps/{sweep.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "sweep-finished")


async def test_a_sweep_is_deleted_once_it_has_ended_and_its_jobs_stay(
    client: httpx2.AsyncClient, engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine, budget=Budget(1))
    _, [trial] = await run_all(engine, sweeping, sweep, hill)
    assert (await client.delete(f"/v1/sweeps/{sweep.id}")).status_code == 204
    for verb, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        answer = await client.request(verb, f"/v1/sweeps/{sweep.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "sweep-not-found")
    assert (await client.get(f"/v1/jobs/{trial.job_id}")).status_code == 200


async def test_another_project_s_sweep_is_not_there(app: Service, engine: AsyncEngine, key_folder: KeyFolder) -> None:
    sweep = await add_sweep(engine)
    async with client_of(app, key_folder.headers("trainer", project="red", role=Role.ADMIN)) as stranger:
        for verb, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            answer = await stranger.request(verb, f"/v1/sweeps/{sweep.id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "sweep-not-found")
        assert (await stranger.get("/v1/sweeps")).json()["items"] == []


async def test_a_viewer_looks_and_changes_nothing(app: Service, engine: AsyncEngine, key_folder: KeyFolder) -> None:
    sweep = await add_sweep(engine)
    async with client_of(app, key_folder.headers("trainer", project="blue", role=Role.VIEWER)) as viewer:
        assert (await viewer.get(f"/v1/sweeps/{sweep.id}")).status_code == 200
        assert (await viewer.post("/v1/sweeps", json=SWEEP)).status_code == 403
        assert (await viewer.post(f"/v1/sweeps/{sweep.id}/cancel")).status_code == 403
        assert (await viewer.delete(f"/v1/sweeps/{sweep.id}")).status_code == 403


async def test_what_is_done_is_written_down_in_the_audit(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    id = (await client.post("/v1/sweeps", json=SWEEP)).json()["id"]
    await client.post(f"/v1/sweeps/{id}/cancel")
    headers = key_folder.headers("trainer", project="blue", role=Role.ADMIN)
    entries = (await client.get("/internal/v1/audit", headers=headers)).json()["items"]
    assert [(entry["action"], entry["noun"], entry["name"]) for entry in entries] == [
        ("cancel", "sweep", id),
        ("create", "sweep", id),
    ]
