"""One document of all services' own."""

import copy
from typing import Any

from gateway.domain.openapi import merge

INGEST: dict[str, Any] = {
    "paths": {
        "/v1/datasets": {
            "summary": "Datasets",
            "post": {
                "operationId": "create",
                "security": [{"other": []}],
                "requestBody": {"schema": {"$ref": "#/components/schemas/In"}},
            },
        },
        "/internal/v1/events": {"get": {}},
        "/livez": {"get": {}},
        "/v10/x": {"get": {}},
    },
    "components": {
        "schemas": {
            "In": {"properties": {"next": {"$ref": "#/components/schemas/In"}}},
            "Either": {
                "oneOf": [{"$ref": "#/components/schemas/In"}, {"$ref": "https://elsewhere/x"}],
                "discriminator": {"propertyName": "kind", "mapping": {"a": "#/components/schemas/In"}},
            },
            "Odd": {"properties": {"mapping": {"type": "object"}, "$ref": {"type": "string"}}},
        },
        "securitySchemes": {"other": {}},
    },
}
SERVING: dict[str, Any] = {
    "paths": {"/v2": {"get": {"tags": ["inference"]}}, "/v1/datasets": {"get": {"operationId": "create"}}},
    "components": {"schemas": {"In": {"type": "string"}}},
}


def test_public_paths_of_all_services_under_names_that_do_not_clash() -> None:
    merged = merge({"ingest": INGEST, "serving": SERVING}, version="1")

    assert list(merged["paths"]) == ["/v1/datasets", "/v2"]
    post, get = (merged["paths"]["/v1/datasets"][verb] for verb in ("post", "get"))
    assert (post["operationId"], get["operationId"]) == ("ingest_create", "serving_create")
    assert (post["tags"], merged["paths"]["/v2"]["get"]["tags"]) == (["ingest"], ["inference"])
    assert merged["paths"]["/v1/datasets"]["summary"] == "Datasets"
    assert "security" not in post
    named = {"ingest_In", "ingest_Either", "ingest_Odd", "serving_In"}
    assert set(merged["components"]["schemas"]) == {*named, "Problem", "Refusal"}


def test_references_follow_the_new_names() -> None:
    schemas = merge({"ingest": INGEST}, version="1")["components"]["schemas"]

    assert schemas["ingest_In"]["properties"]["next"] == {"$ref": "#/components/schemas/ingest_In"}
    assert schemas["ingest_Either"]["oneOf"][1] == {"$ref": "https://elsewhere/x"}
    assert schemas["ingest_Either"]["discriminator"]["mapping"] == {"a": "#/components/schemas/ingest_In"}
    assert schemas["ingest_Odd"] == INGEST["components"]["schemas"]["Odd"]


def test_refusals_are_described_as_they_are() -> None:
    invented = {"description": "", "content": {"a/b": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}}
    own = {"description": "gone"}
    document = {
        "paths": {
            "/v1/a": {"get": {"responses": {"200": {"description": "it"}, "422": invented, "410": own}}},
            "/v2/a": {"get": {"responses": {"default": own}}},
            "/v2/b": {"get": {}},
        },
        "components": {"schemas": {"HTTPValidationError": {}, "ValidationError": {}}},
    }
    merged = merge({"ingest": document}, version="1")
    first, second, third = (item["get"]["responses"] for item in merged["paths"].values())

    assert set(first) == {"default", "200", "410"}
    problem = first["default"]["content"]["application/problem+json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/Problem"}
    assert second == {"default": own}
    assert third["default"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    assert set(merged["components"]["schemas"]) == {"Problem", "Refusal"}


def test_there_is_one_way_to_be_known() -> None:
    merged = merge({"ingest": INGEST}, version="1")

    assert merged["security"] == [{"apiKey": []}]
    assert list(merged["components"]["securitySchemes"]) == ["apiKey"]


def test_what_is_missing_is_named() -> None:
    merged = merge({"ingest": None, "serving": SERVING}, version="1")

    assert merged["x-unavailable"] == ["ingest"]
    assert "ingest" in merged["info"]["description"]
    assert merge({"serving": SERVING}, version="1")["x-unavailable"] == []


def test_the_documents_themselves_stay_as_they_are() -> None:
    before = copy.deepcopy(INGEST)
    merge({"ingest": INGEST}, version="1")

    assert before == INGEST
