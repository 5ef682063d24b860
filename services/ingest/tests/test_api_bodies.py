"""Requests for versions, and for parts of them, that are refused."""

from typing import Any

import httpx2
import pytest
from replicas_at_work import ReplicaOf

from ingest.app import create_app
from ingest.settings import Settings
from kit.app import Service
from kit.testing import KeyFolder, client_of
from kit.testing_objects import Objects

CSV = {"content-type": "text/csv"}
ROWS = b"id,name,at\n1,ann,2020-01-01T00:00:00Z\n2,bob,\nx,carl,\n4,dora,2020-02-29T12:00:00.5Z\n"
SETTINGS: dict[str, Any] = {
    "columns": [
        {"name": "id", "type": "integer"},
        {"name": "name", "type": "string"},
        {"name": "at", "type": "timestamp"},
    ],
    "key": ["id"],
    "split": {"held_out": 0.5, "seed": 3},
}
VERSIONS = "/v1/datasets/people/versions"


@pytest.fixture
async def people(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """With a dataset."""
    await client.post("/v1/datasets", json={"name": "people", "settings": SETTINGS})
    return client


@pytest.fixture
async def ready(people: httpx2.AsyncClient, replica_of: ReplicaOf) -> httpx2.AsyncClient:
    """With a version that is ready."""
    await people.post(VERSIONS, content=ROWS, headers=CSV)
    assert await replica_of().run() == 1
    return people


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no type": ({"content": b"a\n1\n"}, 415, "unsupported-media-type"),
    "a type that is none": ({"content": b"a", "headers": {"content-type": "image/png"}}, 415, "unsupported-media-type"),
    "an unknown encoding": (
        {"content": b"a", "headers": {**CSV, "content-encoding": "br"}},
        415,
        "unsupported-media-type",
    ),
    "packed JSON": (
        {"content": b"{}", "headers": {"content-type": "application/json", "content-encoding": "gzip"}},
        415,
        "unsupported-media-type",
    ),
    "nothing": ({"content": b"", "headers": CSV}, 422, "upload-empty"),
    "no upload": ({"json": {}}, 422, "validation-failed"),
    "an upload that is none": ({"json": {"upload": "abc"}}, 422, "validation-failed"),
    "an upload that is not there": ({"json": {"upload": "sha256:" + "0" * 64}}, 422, "upload-not-found"),
    "an unknown format": (
        {"json": {"upload": "sha256:" + "0" * 64, "format": "xlsx"}},
        422,
        "validation-failed",
    ),
    "an unknown member": ({"json": {"upload": "sha256:" + "0" * 64, "name": "x"}}, 422, "validation-failed"),
    "NaN": ({"content": b'{"upload": NaN}', "headers": {"content-type": "application/json"}}, 400, "malformed-request"),
    "a member twice": (
        {"content": b'{"upload": "a", "upload": "b"}', "headers": {"content-type": "application/json"}},
        400,
        "malformed-request",
    ),
}


@pytest.mark.parametrize(("request_", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_makes_no_version(
    people: httpx2.AsyncClient, request_: dict[str, Any], status: int, code: str
) -> None:
    refused = await people.post(VERSIONS, **request_)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await people.get(VERSIONS)).json()["items"] == []


async def test_bytes_for_a_dataset_that_is_not_there_are_not_even_read(client: httpx2.AsyncClient) -> None:
    for request_ in ({"content": ROWS, "headers": CSV}, {"json": {"upload": "sha256:" + "0" * 64}}):
        refused = await client.post("/v1/datasets/nobody/versions", **request_)
        assert (refused.status_code, refused.json()["code"]) == (404, "dataset-not-found")


async def test_json_that_never_ends_is_refused_early(people: httpx2.AsyncClient) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * (1 << 18)

    refused = await people.post(VERSIONS, content=endless(), headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (413, "content-too-large")
    assert sent < 8


async def test_a_body_that_says_it_is_too_large_is_refused_unread(
    people: httpx2.AsyncClient, settings: Settings, key_folder: KeyFolder
) -> None:
    async def endless() -> Any:
        raise AssertionError("nobody should ask for it")
        yield b""

    small = create_app(settings.model_copy(update={"upload_bytes": 10}))
    for kind in ("application/json", "text/csv"):
        headers = {"content-type": kind, "content-length": str(1 << 30)}
        async with client_of(small, key_folder.headers("ingest", project="blue")) as client:
            refused = await client.post(VERSIONS, content=endless(), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "content-too-large")


@pytest.mark.parametrize("place", ["rows", "rejects", ""])
@pytest.mark.parametrize("token", ["MXg", "MS0x", "MTk5OTk5OTk5OTk5OTk5OTk5OTk5", "====", "x" * 600])
async def test_a_token_of_another_list_is_refused(ready: httpx2.AsyncClient, place: str, token: str) -> None:
    path = f"{VERSIONS}/1/{place}" if place else VERSIONS
    assert (await ready.get(path, params={"page_token": token})).status_code == 422


@pytest.mark.parametrize("reference", ["0", "01", "-1", "newest", "sha256:abc", "9" * 30, "1%00", "%F0%9F%9A%82"])
async def test_what_is_no_reference_is_not_there(ready: httpx2.AsyncClient, reference: str) -> None:
    assert (await ready.get(f"{VERSIONS}/{reference}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/uploads", "text/csv"), (VERSIONS, "text/csv"), (VERSIONS, "application/json")]
)
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    people: httpx2.AsyncClient, app: Service, key_folder: KeyFolder, settings: Settings, path: str, kind: str
) -> None:
    token = key_folder.headers("ingest", project="blue")["authorization"]
    messages = [{"type": "http.request", "body": b'{"a": 1', "more_body": True}, {"type": "http.disconnect"}]
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async with app.api.router.lifespan_context(app.api) as state:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"authorization", token.encode()), (b"content-type", kind.encode())],
            "state": dict(state or {}),
        }
        await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert b'"code":"body-cut-off"' in sent[1]["body"]
    assert files(settings) == []


def files(settings: Settings) -> list[str]:
    return Objects(settings.objects_url).keys()
