"""Who gets in, through the gateway of the whole suite: nobody without a key, and nobody further than their role."""

import re
from typing import Any

import httpx2
import pytest
from suites_at_work import Suite
from worlds import World

from trainyard import Client

OPEN = re.compile(r"/(livez|readyz|openapi\.json|docs(/.*)?)")
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PRIVATE = ("/metrics", "/internal/v1/events", "/internal/v1/holds", "/internal/v1/audit", "/internal/v1/blobs/sha256:0")


@pytest.fixture(scope="module")
def api(shared_suite: Suite) -> dict[str, Any]:
    """The merged document."""
    with shared_suite.client() as client:
        document: dict[str, Any] = httpx2.get(f"{client.url}/openapi.json", trust_env=False).json()
    assert document["x-unavailable"] == []
    return document


def concrete(path: str) -> str:
    return re.sub(r"{[^}]*}", "x", path)


def test_strangers_get_nothing_but_health_and_docs(shared_suite: Suite, api: dict[str, Any]) -> None:
    paths = {concrete(path) for path in api["paths"]}
    assert len(paths) > 40
    with shared_suite.client() as client, httpx2.Client(base_url=client.url, trust_env=False) as stranger:
        let_in = [
            f"{verb} {path}"
            for path in sorted({*paths, *PRIVATE, "/", "/v1", "/v2", "/nowhere", "/v1/nowhere"})
            for verb in VERBS
            if stranger.request(verb, path).status_code != 401 and not OPEN.fullmatch(path)
        ]
        assert let_in == []
        for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
            assert stranger.get(path).status_code == 200


def test_what_is_internal_is_not_there_for_an_admin_either(shared_suite: Suite) -> None:
    with shared_suite.client() as client, knocking(client) as admin:
        for path in PRIVATE:
            for verb in VERBS:
                assert admin.request(verb, path).status_code in (404, 405), (verb, path)


def test_viewers_look_and_predict_and_change_nothing(shared_suite: Suite, world: World) -> None:
    with shared_suite.client() as admin:
        assert admin.runs.wait(world.start(admin, seed=1).id).phase == "succeeded"
        key = admin.keys.create(f"{world.name}-viewer", role="viewer")
        with Client(admin.url, key.key) as viewer, knocking(viewer) as http:
            assert viewer.predict(world.name, [world.row()]).version == 1
            assert viewer.models.version(world.name).version == 1
            definition = world.pipeline()
            refused = [
                http.post("/v1/datasets", json={"name": "mine"}),
                http.post("/v1/uploads", content=b"a,b\n1,2\n"),
                http.put(f"/v1/pipelines/{world.name}", json=definition),
                http.post(f"/v1/pipelines/{world.name}/runs", json={}),
                http.put(f"/v1/models/{world.name}/aliases/champion", json={"version": 1}),
                http.put(f"/v1/deployments/{world.name}", json={"model": f"{world.name}@1"}),
                http.delete(f"/v1/deployments/{world.name}"),
                http.delete(f"/v1/datasets/{world.dataset}"),
                http.post("/v1/keys", json={"name": "more", "role": "admin"}),
                http.post("/v1/projects", json={"name": "more"}),
            ]
        assert [answer.status_code for answer in refused] == [403] * len(refused)
        admin.keys.revoke(key.id)
        with Client(admin.url, key.key) as gone, knocking(gone) as http:
            assert http.get("/v1/models").status_code == 401


def test_another_project_has_nothing_of_ours(shared_suite: Suite, world: World) -> None:
    with shared_suite.client() as ours:
        run = ours.runs.wait(world.start(ours, seed=1).id)
        assert run.phase == "succeeded"
        job = run.outputs_of("train")["job"]
        theirs = f"{world.name}-other"[:60].strip("-")
        ours.projects.create(theirs)
        key = ours.keys.create("stranger", role="editor", project=theirs).key
        with Client(ours.url, key) as other, knocking(other) as http:
            found = [
                http.get(f"/v1/datasets/{world.dataset}"),
                http.get(f"/v1/datasets/{world.dataset}/versions/1"),
                http.get(f"/v1/jobs/{job}"),
                http.get(f"/v1/jobs/{job}/logs"),
                http.post(f"/v1/jobs/{job}/cancel"),
                http.get(f"/v1/models/{world.name}/versions/1"),
                http.get(f"/v1/models/{world.name}/versions/1/files/model.skops"),
                http.get(f"/v1/deployments/{world.name}"),
                http.post(f"/v1/deployments/{world.name}/predict", json={"rows": [world.row()]}),
                http.get(f"/v2/models/{world.name}"),
                http.get(f"/v1/runs/{run.id}"),
                http.post(f"/v1/runs/{run.id}/cancel"),
                http.delete(f"/v1/pipelines/{world.name}"),
            ]
            assert [answer.status_code for answer in found] == [404] * len(found)
            assert [*other.datasets.list(), *other.models.list(), *other.runs.list()] == []


def knocking(client: Client) -> httpx2.Client:
    """One request at a time, as it is, with the client's key."""
    return httpx2.Client(base_url=client.url, headers=dict(client._http.headers), trust_env=False, timeout=30)
