"""The wire: definitions, runs, problems, keys, ETags, pages, and who may do what."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import World, main_job, pipeline_of

from kit.app import Service
from kit.callers import Role
from kit.tables import audit, events
from kit.testing import DatabaseUrl, KeyFolder, client_of, undeclared, unguarded
from pipelines.app import create_app
from pipelines.settings import Settings

EXAMPLE = Path(__file__).parents[3] / "examples/flight-delays/pipeline.yaml"
YAML = {"content-type": "application/yaml"}
GATE = {"kind": "gate", "with": {"require": ["true"]}}


@pytest.fixture
def settings(engine: AsyncEngine, database_url: DatabaseUrl, key_folder: KeyFolder) -> Settings:
    urls = {f"{name}_url": f"http://{name}" for name in ("ingest", "trainer", "registry", "serving")}
    return Settings.model_validate(
        {
            "database_url": database_url("pipelines"),
            "private_key_file": key_folder.private("pipelines"),
            "public_keys_file": key_folder.public,
            **urls,
        }
    )


@pytest.fixture
def app(settings: Settings) -> Service:
    return create_app(settings)


@pytest.fixture
async def client(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, key_folder.headers("pipelines", project="blue")) as it:
        yield it


async def put(client: httpx2.AsyncClient, document: Any, name: str = "p", **headers: str) -> httpx2.Response:
    return await client.put(f"/v1/pipelines/{name}", json=document, headers=headers)


async def started(client: httpx2.AsyncClient, document: Any = None, **parameters: Any) -> dict[str, Any]:
    made = await put(client, document or pipeline_of({"n": 1}, a=GATE))
    assert made.status_code in (201, 428)
    answer = await client.post("/v1/pipelines/p/runs", json={"parameters": parameters})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def test_every_route_says_who_may_call_it_and_no_stranger_may(app: Service) -> None:
    assert undeclared(app) == []
    assert await unguarded(app) == []


async def test_the_example_is_a_pipeline_as_it_stands(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/v1/pipelines/flight-delays", content=EXAMPLE.read_bytes(), headers=YAML)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["name"] == "flight-delays"
    assert list(body["steps"]) == ["ingest", "train", "gate", "promote", "deploy"]
    assert body["steps"]["gate"]["needs"] == ["train"]
    assert (body["parameters"], body["revision"]) == ({"upload": "", "minimum_auc": 0.68}, 1)
    found = await client.get("/v1/pipelines/flight-delays")
    assert (found.json(), found.headers["etag"]) == (body, answer.headers["etag"])
    assert body["steps"] == yaml.safe_load(EXAMPLE.read_text())["steps"]


async def test_the_same_definition_again_is_no_revision(client: httpx2.AsyncClient) -> None:
    first = await put(client, main_job())
    refused = await put(client, main_job())
    assert (refused.status_code, refused.json()["code"]) == (428, "if-match-missing")
    again = await put(client, main_job(), **{"if-match": first.headers["etag"]})
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, first.json(), first.headers["etag"])
    as_yaml = await client.put(
        "/v1/pipelines/p",
        content=yaml.safe_dump(main_job(), sort_keys=False).encode(),
        headers={**YAML, "if-match": first.headers["etag"]},
    )
    assert (as_yaml.status_code, as_yaml.json()["revision"]) == (200, 1)


async def test_another_definition_is_a_revision(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    first = await put(client, pipeline_of({"n": 1}, a=GATE))
    second = await put(client, pipeline_of({"n": True}, a=GATE), **{"if-match": first.headers["etag"]})
    assert (second.status_code, second.json()["revision"]) == (200, 2)
    stale = await put(client, pipeline_of({"n": 3}, a=GATE), **{"if-match": first.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "changed")
    only_new = await put(client, pipeline_of(a=GATE), **{"if-none-match": "*"})
    assert only_new.status_code == 412
    async with engine.begin() as connection:
        actions = (await connection.execute(sa.select(audit.c.action, audit.c.noun).order_by(audit.c.id))).all()
    assert [tuple(row) for row in actions] == [("create", "pipeline"), ("update", "pipeline")]


async def test_every_mistake_is_named_with_place_and_line(client: httpx2.AsyncClient) -> None:
    text = """\
parameters: {minimum: 1}
steps:
  a:
    kind: cook
  b:
    kind: gate
    needs: [c]
    with:
      require:
        - parameters.minimum >
        - steps.a.outputs.x > 1
        - parameters.minimum > 0
        - 1 + 1
  c:
    kind: gate
    needs: [b]
    with: {require: ["true"], more: 1}
"""
    answer = await client.put("/v1/pipelines/p", content=text.encode(), headers=YAML)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-pipeline")
    found = {place["pointer"]: (place["line"], place["detail"]) for place in answer.json()["errors"]}
    assert {pointer: line for pointer, (line, _) in found.items()} == {
        "#/steps/a/kind": 4,
        "#/steps/b/needs": 7,
        "#/steps/b/with/require/0": 10,
        "#/steps/b/with/require/3": 13,
        "#/steps/c/with/more": 17,
    }
    assert "does not compile: 1:" in found["#/steps/b/with/require/0"][1]
    assert found["#/steps/b/needs"][1] == "the steps need each other in a circle: b → c → b (line 7)"
    assert (await client.get("/v1/pipelines/p")).status_code == 404


async def test_a_cyclic_pipeline_in_json_has_pointers_without_lines(client: httpx2.AsyncClient) -> None:
    cyclic = pipeline_of(a={**GATE, "needs": ["b"]}, b={**GATE, "needs": ["a"]})
    answer = await put(client, cyclic)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"pointer": "#/steps/a/needs", "detail": "the steps need each other in a circle: a → b → a"}
    ]


@pytest.mark.parametrize(
    ("content", "media", "status", "code"),
    [
        (b"a: &a [x]\nb: *a\n", "application/yaml", 400, "malformed-yaml"),
        (b"steps:\n  a: 1\n  a: 2\n", "text/yaml", 400, "malformed-yaml"),
        (b"!!python/object/apply:os.system ['true']", "application/x-yaml", 400, "malformed-yaml"),
        (b"[" * 50_000, "application/yaml", 400, "malformed-yaml"),
        (b"\xff\xfe\x00", "application/yaml", 400, "malformed-yaml"),
        (b"", "application/yaml", 422, "invalid-pipeline"),
        (b"just words", "application/yaml; charset=utf-8", 422, "invalid-pipeline"),
        (b'{"steps": {}, "steps": {}}', "application/json", 400, "malformed-request"),
        (b'{"steps": NaN}', "application/json", 400, "malformed-request"),
        (b"", "application/json", 400, "malformed-request"),
        (b"steps: {}", "text/plain", 415, "unsupported-media-type"),
        (b"a: " + b"x" * (1 << 20), "application/yaml", 413, "content-too-large"),
    ],
)
async def test_hostile_definitions_are_problems(
    client: httpx2.AsyncClient, content: bytes, media: str, status: int, code: str
) -> None:
    answer = await client.put("/v1/pipelines/p", content=content, headers={"content-type": media})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_name_is_a_name(client: httpx2.AsyncClient) -> None:
    assert (await put(client, main_job(), "Not_A_Name")).status_code == 422


async def test_pipelines_are_listed_by_name_in_pages(client: httpx2.AsyncClient) -> None:
    for name in ("b", "c", "a"):
        await put(client, pipeline_of(a=GATE), name)
    first = (await client.get("/v1/pipelines", params={"page_size": 2})).json()
    assert [item["name"] for item in first["items"]] == ["a", "b"]
    rest = (await client.get("/v1/pipelines", params={"page_token": first["next_page_token"]})).json()
    assert ([item["name"] for item in rest["items"]], rest["next_page_token"]) == (["c"], None)


async def test_a_run_is_begun_with_parameters(client: httpx2.AsyncClient) -> None:
    run = await started(client, pipeline_of({"n": 1, "name": "x"}, a=GATE, b={**GATE, "needs": ["a"]}), n=2)
    assert run["parameters"] == {"n": 2, "name": "x"}
    assert (run["pipeline"], run["revision"], run["subject"]) == ("p", 1, "ada")
    assert run["status"] == {"phase": "running", "reason": "", "message": ""}
    assert [(step["name"], step["kind"], step["needs"]) for step in run["steps"]] == [
        ("a", "gate", []),
        ("b", "gate", ["a"]),
    ]
    assert run["steps"][0]["status"]["phase"] == "waiting"
    assert (run["steps"][0]["attempt"], run["steps"][0]["outputs"]) == (0, None)
    assert (await client.get(f"/v1/runs/{run['id']}")).json() == run


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"no": 1}, "#/parameters/no"),
        ({"n": "x"}, "#/parameters/n"),
        ({"n": True}, "#/parameters/n"),
        ({"n": 2**64}, "#/parameters/n"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_refused(
    client: httpx2.AsyncClient, parameters: dict[str, Any], pointer: str
) -> None:
    await put(client, pipeline_of({"n": 1}, a=GATE))
    answer = await client.post("/v1/pipelines/p/runs", json={"parameters": parameters})
    assert (answer.status_code, answer.json()["code"]) == (422, "parameters-invalid")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await client.get("/v1/runs")).json()["items"] == []


async def test_a_run_of_nothing_and_a_body_of_something_else(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/v1/pipelines/nobody/runs", json={})).status_code == 404
    await put(client, pipeline_of(a=GATE))
    assert (await client.post("/v1/pipelines/p/runs", json={"more": 1})).status_code == 422


async def test_the_same_key_begins_one_run(client: httpx2.AsyncClient) -> None:
    await put(client, pipeline_of({"n": 1}, a=GATE))

    async def start(key: str, n: int = 1) -> httpx2.Response:
        body = {"parameters": {"n": n}}
        return await client.post("/v1/pipelines/p/runs", json=body, headers={"idempotency-key": key})

    first, again = await start("k"), await start("k")
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (202, first.json(), "true")
    assert again.headers["location"] == first.headers["location"] == f"/v1/runs/{first.json()['id']}"
    other = await start("k", 2)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    many = await asyncio.gather(*(start("m") for _ in range(8)))
    assert len({answer.json()["id"] for answer in many if answer.status_code == 202}) == 1
    assert {answer.status_code for answer in many} <= {202, 409}
    assert len((await client.get("/v1/runs")).json()["items"]) == 2


async def test_runs_are_listed_newest_first_and_by_pipeline(client: httpx2.AsyncClient) -> None:
    for name in ("p", "q"):
        await put(client, pipeline_of(a=GATE), name)
    ids = [(await client.post(f"/v1/pipelines/{name}/runs", json={})).json()["id"] for name in ("p", "q", "p")]
    listed = (await client.get("/v1/runs", params={"page_size": 2})).json()
    assert [run["id"] for run in listed["items"]] == [ids[2], ids[1]]
    rest = (await client.get("/v1/runs", params={"page_token": listed["next_page_token"]})).json()
    assert [run["id"] for run in rest["items"]] == [ids[0]]
    of_p = (await client.get("/v1/runs", params={"pipeline": "p"})).json()["items"]
    assert [run["id"] for run in of_p] == [ids[2], ids[0]]
    assert (await client.get("/v1/runs", params={"page_token": "MXg"})).status_code == 422


async def test_a_wait_ends_with_the_run(client: httpx2.AsyncClient, world: World) -> None:
    run = await started(client)
    waiting = asyncio.create_task(client.get(f"/v1/runs/{run['id']}", params={"wait": "30s"}))
    await world.settle(uuid.UUID(run["id"]))
    body = (await waiting).json()
    assert (body["status"]["phase"], body["steps"][0]["status"]["phase"]) == ("succeeded", "succeeded")
    assert body["steps"][0]["outputs"] == {"passed": True, "require": ["true"]}
    assert body["finished_at"]
    assert body["steps"][0]["started_at"] <= body["steps"][0]["finished_at"]


async def test_a_run_is_cancelled_resumed_and_deleted(
    client: httpx2.AsyncClient, world: World, engine: AsyncEngine
) -> None:
    run = await started(client)
    path = f"/v1/runs/{run['id']}"
    assert (await client.delete(path)).json()["code"] == "run-under-way"
    assert (await client.post(f"{path}/resume")).json()["code"] == "nothing-to-resume"
    cancelled = await client.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]["phase"]) == (202, "cancelled")
    assert (await client.post(f"{path}/cancel")).json()["code"] == "run-over"
    resumed = await client.post(f"{path}/resume", headers={"idempotency-key": "r"})
    assert (resumed.status_code, resumed.json()["status"]["phase"]) == (202, "running")
    assert (await client.post(f"{path}/resume", headers={"idempotency-key": "r"})).json() == resumed.json()
    assert (await world.settle(uuid.UUID(run["id"]))).phase == "succeeded"
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    async with engine.begin() as connection:
        kinds = list((await connection.execute(sa.select(events.c.kind).order_by(events.c.id))).scalars())
        actions = list((await connection.execute(sa.select(audit.c.action).order_by(audit.c.id))).scalars())
    assert kinds == ["run.cancelled", "run.succeeded"]
    assert actions == ["create", "create", "cancel", "resume", "delete"]


async def test_a_pipeline_in_use_stays(client: httpx2.AsyncClient) -> None:
    run = await started(client)
    refused = await client.delete("/v1/pipelines/p")
    assert (refused.status_code, refused.json()["code"]) == (409, "pipeline-in-use")
    await client.post(f"/v1/runs/{run['id']}/cancel")
    stale = await client.delete("/v1/pipelines/p", headers={"if-match": '"stale"'})
    assert stale.status_code == 412
    assert (await client.delete("/v1/pipelines/p")).status_code == 204
    assert (await client.delete("/v1/pipelines/p")).status_code == 404
    assert (await client.get(f"/v1/runs/{run['id']}")).status_code == 200


async def test_another_projects_things_are_not_there(
    app: Service, client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    run = await started(client)
    async with client_of(app, key_folder.headers("pipelines", project="red", role=Role.ADMIN)) as stranger:
        for method, path in (
            ("GET", "/v1/pipelines/p"),
            ("DELETE", "/v1/pipelines/p"),
            ("POST", "/v1/pipelines/p/runs"),
            ("GET", f"/v1/runs/{run['id']}"),
            ("DELETE", f"/v1/runs/{run['id']}"),
            ("POST", f"/v1/runs/{run['id']}/cancel"),
            ("POST", f"/v1/runs/{run['id']}/resume"),
        ):
            answer = await stranger.request(method, path, json={} if path.endswith("/runs") else None)
            assert answer.status_code == 404, path
        assert (await stranger.get("/v1/pipelines")).json()["items"] == []
        assert (await stranger.get("/v1/runs")).json()["items"] == []
    assert (await client.get(f"/v1/runs/{run['id']}")).json()["status"]["phase"] == "running"


async def test_a_viewer_looks_and_touches_nothing(
    app: Service, client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    run = await started(client)
    async with client_of(app, key_folder.headers("pipelines", project="blue", role=Role.VIEWER)) as viewer:
        for path in ("/v1/pipelines", "/v1/pipelines/p", "/v1/runs", f"/v1/runs/{run['id']}"):
            assert (await viewer.get(path)).status_code == 200
        for method, path in (
            ("PUT", "/v1/pipelines/p"),
            ("DELETE", "/v1/pipelines/p"),
            ("POST", "/v1/pipelines/p/runs"),
            ("DELETE", f"/v1/runs/{run['id']}"),
            ("POST", f"/v1/runs/{run['id']}/cancel"),
            ("POST", f"/v1/runs/{run['id']}/resume"),
        ):
            assert (await viewer.request(method, path)).status_code == 403, path


async def test_an_id_that_is_none_is_a_problem(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/runs/none")).status_code == 422
    assert (await client.get(f"/v1/runs/{uuid.uuid4()}")).status_code == 404


async def test_what_is_internal_is_for_services(
    client: httpx2.AsyncClient, app: Service, key_folder: KeyFolder
) -> None:
    run = await started(client)
    await client.post(f"/v1/runs/{run['id']}/cancel")
    async with client_of(app, key_folder.headers("pipelines", issuer="serving", role=Role.VIEWER)) as service:
        feed = (await service.get("/internal/v1/events")).json()
    [event] = feed["events"]
    assert (event["kind"], event["subject"], event["project"]) == ("run.cancelled", run["id"], "blue")
    assert event["data"] == {
        "run": run["id"],
        "pipeline": "p",
        "phase": "cancelled",
        "message": "The run was cancelled.",
    }


async def test_two_who_make_it_at_once_make_one(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(put(client, pipeline_of({"n": n}, a=GATE)) for n in range(4)))
    assert sorted(answer.status_code for answer in answers)[0] == 201
    assert [answer.status_code for answer in answers].count(201) == 1
    assert {answer.status_code for answer in answers} <= {201, 412, 428}


async def test_the_document_says_what_a_definition_may_be(app: Service) -> None:
    document = json.loads(json.dumps(app.openapi()))
    body = document["paths"]["/v1/pipelines/{name}"]["put"]["requestBody"]["content"]
    assert body.keys() == {"application/yaml", "application/json"}
