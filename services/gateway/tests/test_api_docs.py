"""The merged document and the page that shows it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from gateway.api import docs
from gateway.app import create_app
from gateway.settings import Settings
from kit.testing import DatabaseUrl, KeyFolder, eventually

from .gateways import NOWHERE, Door, Upstream, client, gateway_at_work, says, serving, settings_of

INGEST: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "ingest", "version": "1"},
    "paths": {
        "/v1/datasets": {
            "post": {
                "operationId": "create_dataset",
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DatasetIn"}}}
                },
                "responses": {"201": {"description": "made"}},
            }
        },
        "/internal/v1/events": {"get": {"responses": {"200": {"description": "internal"}}}},
    },
    "components": {"schemas": {"DatasetIn": {"type": "object", "properties": {"name": {"type": "string"}}}}},
}


def validate(document: dict[str, Any]) -> None:
    """By the standard's own schema; and every reference leads somewhere, every operation has a name of its own."""
    jsonschema_rs.validator_for(OPENAPI_31).validate(document)
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict) and "operationId" in operation
    ]
    assert len(names) == len(set(names)) > 0


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


async def test_the_document_is_whole_and_valid(door: Door) -> None:
    door.upstream.replies["/openapi.json"] = says(INGEST)

    async def document() -> dict[str, Any]:
        async with door.client(None) as http:
            answered = await http.get("/openapi.json")
        assert answered.status_code == 200
        found: dict[str, Any] = answered.json()
        assert "/v1/datasets" in found["paths"]
        return found

    found = await eventually(document)
    validate(found)
    assert found["x-unavailable"] == []
    assert {"/v1/keys", "/v1/projects/{name}/members/{subject}", "/v1/whoami", "/v1/audit"} <= set(found["paths"])
    assert all(path.startswith(("/v1", "/v2")) for path in found["paths"])
    created = found["paths"]["/v1/datasets"]["post"]
    schema = created["requestBody"]["content"]["application/json"]["schema"]
    # One process answers for all five here: the last one's name stays.
    assert schema["$ref"].endswith("_DatasetIn")
    assert schema["$ref"].removeprefix("#/components/schemas/") in found["components"]["schemas"]


async def test_what_is_missing_is_asked_for_when_somebody_reads(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> None:
    service = Upstream()
    service.replies["/openapi.json"] = says(INGEST)
    async with serving(service) as port_of_service:
        settings = settings_of(
            database_url("gateway"),
            key_folder,
            NOWHERE,
            ingest_url=f"http://127.0.0.1:{port_of_service}",
            document_seconds=3600,
        )
        async with gateway_at_work(settings) as port, client(port) as http:

            async def missing() -> bool:
                found = (await http.get("/openapi.json")).json()
                return bool(found["x-unavailable"] == ["pipelines", "registry", "serving", "trainer"])

            await eventually(missing)
            assert "/v1/datasets" in (await http.get("/openapi.json")).json()["paths"]


async def test_a_document_that_is_none_is_not_taken(door: Door) -> None:
    door.upstream.replies["/openapi.json"] = says([1])
    async with door.client(None) as http:
        assert (await http.get("/openapi.json")).json()["paths"].keys() >= {"/v1/whoami"}


@pytest.mark.parametrize("name", sorted(docs.TYPES))
async def test_the_page_and_its_files_are_ours(door: Door, name: str) -> None:
    async with door.client(None) as http:
        answered = await http.get(f"/docs/{name}")
        head = await http.head(f"/docs/{name}")
        assert (answered.status_code, head.status_code) == (200, 200)
        assert answered.headers["content-type"] == docs.TYPES[name]
        assert len(answered.content) == int(head.headers["content-length"]) > 0
        assert answered.headers["x-content-type-options"] == "nosniff"


async def test_the_page_loads_nothing_from_elsewhere(door: Door) -> None:
    async with door.client(None) as http:
        page = await http.get("/docs")
        start = await http.get("/docs/start.js")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "//" not in page.text
        assert "http" not in start.text
        for name in ("nothing", "..%2fapp.py", "__init__.py", "%2e%2e"):
            answered = await http.get(f"/docs/{name}")
            assert answered.status_code in (400, 404)
        assert (await http.post("/docs")).status_code == 401


async def test_our_own_part_has_all_our_routes(settings: Settings) -> None:
    app = create_app(settings)
    own = set(app.openapi()["paths"])

    assert own == {
        "/v1/keys",
        "/v1/keys/{key_id}",
        "/v1/projects",
        "/v1/projects/{name}",
        "/v1/projects/{name}/members",
        "/v1/projects/{name}/members/{subject}",
        "/v1/whoami",
        "/v1/status",
        "/v1/audit",
    }
