"""Who may ask ingest for what."""

import httpx2
import pytest

from ingest.settings import Settings
from kit.app import Service
from kit.callers import Role
from kit.testing import KeyFolder, client_of, undeclared, unguarded

DIGEST = "sha256:" + "0" * 64
CSV = {"content-type": "text/csv"}


async def test_every_route_asks_who_is_there(app: Service) -> None:
    assert await unguarded(app) == []
    assert undeclared(app) == []


WRITES = {
    "upload": ("POST", "/v1/uploads"),
    "delete an upload": ("DELETE", f"/v1/uploads/{DIGEST}"),
    "create a dataset": ("POST", "/v1/datasets"),
    "change a dataset": ("PUT", "/v1/datasets/flights"),
    "delete a dataset": ("DELETE", "/v1/datasets/flights"),
    "make a version": ("POST", "/v1/datasets/flights/versions"),
    "delete a version": ("DELETE", "/v1/datasets/flights/versions/1"),
}


@pytest.mark.parametrize(("method", "path"), WRITES.values(), ids=WRITES.keys())
async def test_a_viewer_cannot(app: Service, key_folder: KeyFolder, method: str, path: str) -> None:
    async with client_of(app, key_folder.headers("ingest", role=Role.VIEWER)) as viewer:
        answer = await viewer.request(method, path, content=b"{}", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (403, "role-too-low")


OF_A_VERSION = ["", "/profile", "/rejects", "/rows", "/shards", f"/shards/{DIGEST}"]


async def test_a_viewer_may_read(client: httpx2.AsyncClient, app: Service, key_folder: KeyFolder) -> None:
    await client.post("/v1/datasets", json={"name": "flights"})
    async with client_of(app, key_folder.headers("ingest", project="blue", role=Role.VIEWER)) as viewer:
        for path in ("/v1/datasets", "/v1/datasets/flights", "/v1/datasets/flights/versions"):
            assert (await viewer.get(path)).status_code == 200


async def test_another_projects_things_are_not_there(
    client: httpx2.AsyncClient, app: Service, key_folder: KeyFolder
) -> None:
    await client.post("/v1/datasets", json={"name": "flights"})
    made = await client.post("/v1/datasets/flights/versions", content=b"a\n1\n", headers=CSV)
    upload = made.json()["source"]["upload"]
    async with client_of(app, key_folder.headers("ingest", project="red", role=Role.ADMIN)) as other:
        for path in OF_A_VERSION:
            assert (await other.get(f"/v1/datasets/flights/versions/1{path}")).status_code == 404
        assert (await other.get("/v1/datasets/flights")).status_code == 404
        assert (await other.get("/v1/datasets/flights/versions")).status_code == 404
        assert (await other.delete("/v1/datasets/flights")).status_code == 404
        assert (await other.delete("/v1/datasets/flights/versions/1")).status_code == 404
        assert (await other.get("/v1/datasets")).json()["items"] == []
        await other.post("/v1/datasets", json={"name": "flights"})
        assert (await other.delete(f"/v1/uploads/{upload}")).status_code == 404
        refused = await other.post("/v1/datasets/flights/versions", json={"upload": upload})
        assert (refused.status_code, refused.json()["code"]) == (422, "upload-not-found")
    assert (await client.get("/v1/datasets/flights/versions/1")).status_code == 200


INTERNAL = {
    "events": ("GET", "/internal/v1/events"),
    "holds": ("PUT", "/internal/v1/holds"),
    "letting go": ("DELETE", "/internal/v1/holds?noun=dataset-version&ref=flights@1&holder=x"),
}


@pytest.mark.parametrize(("method", "path"), INTERNAL.values(), ids=INTERNAL.keys())
async def test_what_is_internal_is_not_there_for_others(
    app: Service, key_folder: KeyFolder, method: str, path: str
) -> None:
    async with client_of(app, key_folder.headers("ingest", issuer="ingest", role=Role.ADMIN)) as nobody:
        assert (await nobody.request(method, path)).status_code == 404


async def test_the_gateway_reads_who_did_what(client: httpx2.AsyncClient, app: Service, key_folder: KeyFolder) -> None:
    await client.post("/v1/datasets", json={"name": "flights"})
    await client.post("/v1/datasets/flights/versions", content=b"a\n1\n", headers=CSV)
    await client.delete("/v1/datasets/flights")
    async with client_of(app, key_folder.headers("ingest", project="blue", role=Role.ADMIN)) as gateway:
        entries = (await gateway.get("/internal/v1/audit")).json()["items"]
    assert [(entry["action"], entry["noun"], entry["subject"]) for entry in reversed(entries)] == [
        ("create", "dataset", "ada"),
        ("create", "upload", "ada"),
        ("create", "dataset-version", "ada"),
        ("delete", "dataset", "ada"),
    ]


async def test_the_process_is_ready_without_asking_anybody(app: Service, settings: Settings) -> None:
    async with client_of(app) as stranger:
        assert (await stranger.get("/readyz")).status_code == 200
        document = (await stranger.get("/openapi.json")).json()
    assert "/v1/datasets/{name}/versions/{reference}/rows" in document["paths"]
    assert not [path for path in document["paths"] if path.startswith("/internal")]
