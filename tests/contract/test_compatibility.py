"""What counts as a broken promise, and what as growth."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from compatibility import breaks

LAMP = {
    "type": "object",
    "required": ["name", "phase"],
    "properties": {
        "name": {"type": "string"},
        "phase": {"type": "string", "enum": ["dark", "lit"]},
        "maker": {"anyOf": [{"$ref": "#/components/schemas/Maker"}, {"type": "null"}]},
        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/LampOut"}},
    },
}
LAMP_IN = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
}
MAKER = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def json_of(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


RELEASED: dict[str, Any] = {
    "paths": {
        "/v1/lamps": {
            "get": {
                "parameters": [{"in": "query", "name": "page_size"}],
                "responses": {"200": {"content": json_of("LampOut")}, "422": {}},
            },
            "post": {
                "requestBody": {"content": json_of("LampIn")},
                "responses": {"201": {"content": json_of("LampOut")}},
            },
        }
    },
    "components": {"schemas": {"LampOut": LAMP, "LampIn": LAMP_IN, "Maker": MAKER}},
}
Change = Callable[[Any, Any], object]


def changed(change: Change) -> dict[str, Any]:
    current = copy.deepcopy(RELEASED)
    change(current["paths"]["/v1/lamps"], current["components"]["schemas"])
    return current


def test_what_is_the_same_breaks_nothing() -> None:
    assert breaks(RELEASED, RELEASED) == []


BREAKS: dict[str, Change] = {
    "GET /v1/lamps: is gone": lambda paths, schemas: paths.pop("get"),
    "GET /v1/lamps: the query parameter page_size is gone": lambda paths, schemas: paths["get"]["parameters"].pop(),
    "GET /v1/lamps: the query parameter of has become required": lambda paths, schemas: paths["get"][
        "parameters"
    ].append({"in": "query", "name": "of", "required": True}),
    "GET /v1/lamps: 200 is gone": lambda paths, schemas: paths["get"]["responses"].pop("200"),
    "GET /v1/lamps: 200 is no longer application/json": lambda paths, schemas: paths["get"]["responses"]["200"].pop(
        "content"
    ),
    "POST /v1/lamps: a body has become required": lambda paths, schemas: paths["post"]["requestBody"].update(
        required=True
    ),
    "POST /v1/lamps: application/json is no longer taken": lambda paths, schemas: paths["post"]["requestBody"].update(
        content={"text/csv": {}}
    ),
    "POST /v1/lamps body: the member colour has become required": lambda paths, schemas: schemas["LampIn"][
        "required"
    ].append("colour"),
    "POST /v1/lamps body: the member size is gone": lambda paths, schemas: schemas["LampIn"]["properties"].pop("size"),
    "POST /v1/lamps body.size: no longer takes integer": lambda paths, schemas: schemas["LampIn"]["properties"].update(
        size={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "POST /v1/lamps body.name: takes fewer values": lambda paths, schemas: schemas["LampIn"]["properties"].update(
        name={"type": "string", "enum": ["red"]}
    ),
    "GET /v1/lamps 200: the member phase is gone": lambda paths, schemas: schemas["LampOut"]["properties"].pop("phase"),
    "GET /v1/lamps 200: the member phase may be missing now": lambda paths, schemas: schemas["LampOut"][
        "required"
    ].remove("phase"),
    "GET /v1/lamps 200.name: may now be integer": lambda paths, schemas: schemas["LampOut"]["properties"].update(
        name={"type": "integer"}
    ),
    "GET /v1/lamps 200.name: may now be null": lambda paths, schemas: schemas["LampOut"]["properties"].update(
        name={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "GET /v1/lamps 200.maker: the member name is gone": lambda paths, schemas: schemas["Maker"]["properties"].pop(
        "name"
    ),
}


@pytest.mark.parametrize("said", BREAKS)
def test_a_broken_promise_is_told_with_its_place(said: str) -> None:
    assert said in breaks(RELEASED, changed(BREAKS[said]))


@pytest.mark.parametrize(
    "change",
    [
        lambda paths, schemas: paths.update(put={"responses": {}}),
        lambda paths, schemas: paths["get"]["parameters"].append({"in": "query", "name": "of"}),
        lambda paths, schemas: schemas["LampOut"]["properties"].update(colour={"type": "string"}),
        lambda paths, schemas: schemas["LampOut"]["required"].append("parts"),
        lambda paths, schemas: schemas["LampIn"]["properties"].update(colour={"type": "string"}),
        lambda paths, schemas: schemas["LampIn"].update(required=[]),
        lambda paths, schemas: schemas["LampIn"]["properties"].update(name={}),
    ],
)
def test_growth_breaks_nothing(change: Change) -> None:
    assert breaks(RELEASED, changed(change)) == []
