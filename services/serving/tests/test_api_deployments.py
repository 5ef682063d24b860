"""The control plane's wire."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import LOGISTIC, REGRESSOR, rows, trained

from kit.callers import Role
from kit.testing import KeyFolder, eventually, undeclared, unguarded
from serving.settings import Settings
from trainyard.results import Deployment as Seen


@pytest.fixture(autouse=True)
def models(registry: Registry) -> None:
    registry.move("late", "champion", registry.register("late", trained(LOGISTIC)))
    registry.register("late", trained(LOGISTIC, seed=1))


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    return document


async def test_a_deployment_is_as_the_client_reads_it(serving: Serving) -> None:
    made = await serving.put("late", "late@champion")
    assert made.status_code == 201
    assert made.json()["status"] == {
        "phase": "pending",
        "reason": "resolving",
        "message": "The models are looked up.",
        "observed_generation": 0,
    }
    seen = Seen.of(await serving.settled("late"))
    assert (seen.name, seen.phase, seen.serves, seen.generation) == ("late", "ready", ("late@1",), 1)
    assert list(seen.models) == [{"model": "late@champion", "weight": 100}]
    assert seen.raw["status"]["observed_generation"] == 1
    assert seen.revision is not None
    [target] = seen.revision.targets
    assert (target.weight, target.raw["format"]) == (100, "onnx")
    again = await serving.http.get("/v1/deployments/late")
    assert again.headers["etag"] == made.headers["etag"]


async def test_the_same_again_changes_nothing_and_another_model_needs_the_etag(serving: Serving) -> None:
    made = await serving.put("late", "late@champion")
    before = await serving.settled("late")
    problem(await serving.put("late", "late@champion"), 428, "if-match-missing")
    problem(await serving.put("late", "late@2", **{"if-match": '"other"'}), 412, "changed")
    same = await serving.put("late", "late@champion", **{"if-match": made.headers["etag"]})
    assert (same.status_code, same.json(), same.headers["etag"]) == (200, before, made.headers["etag"])
    changed = await serving.put("late", "late@2", **{"if-match": made.headers["etag"]})
    assert (changed.status_code, changed.json()["generation"]) == (200, 2)
    assert changed.headers["etag"] != made.headers["etag"]
    found = await serving.settled("late")
    assert (found["revision"]["id"], found["revision"]["targets"][0]["version"]) == (2, 2)
    problem(await serving.put("new", "late@1", **{"if-match": "*"}), 412, "nothing-to-change")


async def test_who_puts_what_an_alias_means_by_now_waits_for_it(serving: Serving, registry: Registry) -> None:
    await serving.deploy("late", "late@champion")
    registry.aliases[("demo", "late", "champion")] = 2  # its event is lost
    found = await serving.deploy("late", "late@champion")
    assert (found["generation"], found["revision"]["targets"][0]["version"]) == (1, 2)


async def test_limits_stay_until_they_are_changed_or_taken_away(serving: Serving) -> None:
    async def put(**body: Any) -> dict[str, Any]:
        there = await serving.http.get("/v1/deployments/late")
        headers = {"if-match": there.headers["etag"]} if there.is_success else {}
        answer = await serving.http.put("/v1/deployments/late", json={"model": "late@1", **body}, headers=headers)
        assert answer.is_success, answer.text
        return await serving.settled("late")

    unset = {"concurrency": None, "waiting": None, "memory_bytes": None}
    made = await put(limits={"concurrency": 2})
    assert (made["limits"], made["pinned"]) == ({**unset, "concurrency": 2}, False)
    pinned = await put(pinned=True)
    assert (pinned["limits"], pinned["pinned"], pinned["generation"]) == (made["limits"], True, 2)
    again = await put(limits={"concurrency": 2}, pinned=True)
    assert (again["generation"], again["revision"]["id"]) == (2, 1)
    freed = await put(limits={}, pinned=False)
    assert (freed["limits"], freed["pinned"], freed["generation"], freed["revision"]["id"]) == (unset, False, 3, 1)
    admin = serving.headers(role=Role.ADMIN)
    entries = (await serving.http.get("/internal/v1/audit", headers=admin)).json()["items"]
    assert [entry["detail"].get("limits") for entry in entries] == [{}, {"concurrency": 2}, {"concurrency": 2}]


@pytest.mark.parametrize(
    ("name", "body", "pointers"),
    [
        ("late", {}, ["#"]),
        ("late", {"model": "late", "models": [{"model": "late", "weight": 1}]}, ["#"]),
        ("late", {"model": "late", "more": 1}, ["#/more"]),
        ("late", {"model": "late", "limits": {"concurrency": 0}}, ["#/limits/concurrency"]),
        ("late", {"model": "late", "limits": {"waiting": True}}, ["#/limits/waiting"]),
        ("late", {"model": "late", "limits": {"memory_bytes": 1}}, ["#/limits/memory_bytes"]),
        ("late", {"model": "late", "limits": {"rows": 1}}, ["#/limits/rows"]),
        ("late", {"model": "late", "pinned": "yes"}, ["#/pinned"]),
        ("late", {"model": "Late@@"}, ["#/model"]),
        ("late", {"model": 7}, ["#/model"]),
        ("late", {"models": []}, ["#/models"]),
        ("late", {"models": [{"model": "late"}]}, ["#/models/0/weight"]),
        ("late", {"models": [{"model": "late", "weight": 0}]}, ["#/models/0/weight"]),
        ("late", {"models": [{"model": "late", "weight": 1.5}]}, ["#/models/0/weight"]),
        ("late", {"models": [{"model": "late", "weight": 1}] * 11}, ["#/models"]),
        ("Late", {"model": "late"}, ["{name}"]),
    ],
)
async def test_what_is_wrong_is_named_with_its_place(
    serving: Serving, name: str, body: dict[str, Any], pointers: list[str]
) -> None:
    answer = await serving.http.put(f"/v1/deployments/{name}", json=body)
    assert [place["pointer"] for place in problem(answer, 422, "validation-failed")["errors"]] == pointers


async def test_a_reference_that_means_nothing_is_refused_with_its_place(serving: Serving, registry: Registry) -> None:
    registry.register("value", trained(REGRESSOR))
    found = problem(await serving.put("late", "late@nobody"), 422, "model-not-found")
    assert found["errors"] == [{"pointer": "#/model", "detail": "there is no model version late@nobody"}]
    parts = [{"model": "late", "weight": 1}, {"model": "nobody", "weight": 1}]
    assert (
        problem(await serving.put("late", parts), 422, "model-not-found")["errors"][0]["pointer"] == "#/models/1/model"
    )
    parts[1]["model"] = "value"
    found = problem(await serving.put("late", parts), 422, "signatures-differ")
    assert found["errors"][0]["pointer"] == "#/models/1/model"
    problem(await serving.http.get("/v1/deployments/late"), 404, "deployment-not-found")


async def test_without_the_registry_nothing_is_put(serving: Serving, registry: Registry) -> None:
    registry.refuses["/versions/"] = (503, b"{}")
    answer = await serving.put("late", "late")
    problem(answer, 503, "dependency-unavailable")
    assert answer.headers["retry-after"]


async def test_lists_have_pages_by_name(serving: Serving) -> None:
    for name in ("c", "a", "b"):
        await serving.put(name, "late")
    first = (await serving.http.get("/v1/deployments", params={"page_size": 2})).json()
    assert [it["name"] for it in first["items"]] == ["a", "b"]
    token = first["next_page_token"]
    second = (await serving.http.get("/v1/deployments", params={"page_size": 2, "page_token": token})).json()
    assert ([it["name"] for it in second["items"]], second["next_page_token"]) == (["c"], None)


async def test_a_deleted_one_answers_no_more_and_lets_its_model_go(serving: Serving, registry: Registry) -> None:
    await serving.deploy("late", "late")
    stale = await serving.http.delete("/v1/deployments/late", headers={"if-match": '"other"'})
    problem(stale, 412, "changed")
    assert (await serving.http.delete("/v1/deployments/late")).status_code == 204
    problem(await serving.http.get("/v1/deployments/late"), 404, "deployment-not-found")
    problem(await serving.http.delete("/v1/deployments/late"), 404, "deployment-not-found")

    async def is_gone() -> bool:
        return (await serving.predict("late", rows(1))).status_code == 404

    await eventually(is_gone)
    await eventually(lambda: registry.held() == set())
    assert (await serving.deploy("late", "late"))["revision"]["id"] == 1


async def test_a_viewer_looks_and_predicts_and_changes_nothing(serving: Serving) -> None:
    await serving.deploy("late", "late")
    viewer = serving.headers(role=Role.VIEWER)
    assert (await serving.http.get("/v1/deployments/late", headers=viewer)).is_success
    path = "/v1/deployments/late/predict"
    assert (await serving.http.post(path, json={"rows": rows(1)}, headers=viewer)).is_success
    for refused in (
        await serving.http.put("/v1/deployments/late", json={"model": "late@2"}, headers=viewer),
        await serving.http.delete("/v1/deployments/late", headers=viewer),
    ):
        problem(refused, 403, "role-too-low")


async def test_another_project_has_nothing_of_ours(serving: Serving) -> None:
    await serving.deploy("late", "late")
    stranger = serving.headers(project="other")
    answers = [
        await serving.http.get("/v1/deployments/late", headers=stranger),
        await serving.http.delete("/v1/deployments/late", headers=stranger),
        await serving.http.post("/v1/deployments/late/predict", json={"rows": rows(1)}, headers=stranger),
        await serving.http.get("/v2/models/late", headers=stranger),
        await serving.http.post("/v2/models/late/infer", json={"inputs": []}, headers=stranger),
    ]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert (await serving.http.get("/v1/deployments", headers=stranger)).json()["items"] == []


async def test_every_effect_is_in_the_audit_and_in_the_feed(serving: Serving) -> None:
    await serving.deploy("late", "late@1")
    await serving.deploy("late", "late@2")
    await serving.http.delete("/v1/deployments/late")
    admin = serving.headers(role=Role.ADMIN)
    entries = (await serving.http.get("/internal/v1/audit", headers=admin)).json()["items"]
    assert [entry["action"] for entry in entries] == ["delete", "update", "create"]
    feed = (await serving.http.get("/internal/v1/events", params={"wait": "2s"})).json()["events"]
    told = [(event["kind"], event["data"]["revision"]) for event in feed]
    assert told == [("deployment.ready", 1), ("deployment.ready", 2), ("deployment.deleted", 2)]


async def test_nobody_gets_in_without_a_token_and_every_route_says_who_may(serving: Serving) -> None:
    assert await unguarded(serving.app) == []
    assert undeclared(serving.app) == []


async def test_the_document_knows_the_raw_routes(serving: Serving) -> None:
    paths = (await serving.http.get("/openapi.json")).json()["paths"]
    assert {"/v1/deployments/{name}", "/v1/deployments/{name}/predict", "/v2/models/{name}/infer", "/v2"} <= set(paths)
    names = [it["operationId"] for path in paths.values() for verb, it in path.items() if verb != "parameters"]
    assert len(set(names)) == len(names)


async def test_a_project_has_so_many_deployments_and_not_one_more(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine
) -> None:
    async with Serving.started(settings(project_deployments=2), key_folder, reconciles=False) as it:
        answers = await asyncio.gather(*(it.put(f"late-{number}", "late@1") for number in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]
        [one, _] = [answer for answer in answers if answer.is_success]
        refused = next(answer for answer in answers if not answer.is_success)
        assert "2 deployments" in problem(refused, 409, "too-many-deployments")["detail"]
        changed = await it.put(one.json()["name"], "late@2", **{"if-match": one.headers["etag"]})
        assert changed.status_code == 200
        await it.http.delete(f"/v1/deployments/{one.json()['name']}")
        assert (await it.put("again", "late@1")).status_code == 201
