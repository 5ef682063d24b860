"""Whatever is sent, the answer is an answer: no 5xx, and a problem document for every refusal."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation

from kit.app import Service
from registry.domain.manifests import Trained
from registry.testing import FILE, Trainer, digest_of, manifest_of

EXAMPLES = 25
JSON = {"content-type": "application/json"}
THERE = {
    "keyid": "ada",
    "name": "flight-delays",
    "reference": "1",
    "alias": "champion",
    "path": "model.skops",
    "digest": digest_of(FILE),
}


def document_of(app: Service) -> dict[str, Any]:
    """What the registry says of itself, and its internal routes, which it shows nobody."""
    document = json.loads(json.dumps(app.openapi()))
    manifest = Trained.model_json_schema(ref_template="#/components/schemas/Manifest.{model}")
    for name, schema in manifest.pop("$defs").items():
        document["components"]["schemas"][f"Manifest.{name}"] = schema
    document["components"]["schemas"]["Manifest"] = manifest
    paths = document["paths"]
    ref = {"$ref": "#/components/schemas/Manifest"}
    paths["/internal/v1/models/{name}/versions"] = _put("name", "application/json", ref)
    octets = {"type": "string", "format": "binary"}
    paths["/internal/v1/blobs/{digest}"] = _put("digest", "application/octet-stream", octets)
    word = {"type": "string"}
    hold = {"type": "object", "properties": dict.fromkeys(("noun", "ref", "holder"), word)}
    paths["/internal/v1/holds"] = _put(None, "application/json", hold)
    parameters = [{"name": name, "in": "query", "schema": word} for name in ("after", "wait")]
    paths["/internal/v1/events"] = {"get": {"parameters": parameters, "responses": {}}}
    return {name: value for name, value in document.items() if name != "servers"}


def _put(parameter: str | None, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    named = [{"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}] if parameter else []
    body = {"required": True, "content": {media: {"schema": schema}}}
    return {"put": {"parameters": named, "requestBody": body, "responses": {}}}


def operations() -> list[tuple[str, str]]:
    """Known before there is a registry: a test for each."""
    model, version, alias = "/v1/models", "/v1/models/{name}/versions", "/v1/models/{name}/aliases"
    return [
        *(("get", model), ("post", model), ("get", f"{model}/{{name}}"), ("delete", f"{model}/{{name}}")),
        *((verb, f"{version}/{{reference}}") for verb in ("get", "delete")),
        *(("get", f"{version}{rest}") for rest in ("", "/{reference}/lineage", "/{reference}/files/{path}")),
        ("get", f"{version}/{{reference}}/files/{{path}}/url"),
        ("put", f"{version}/{{reference}}/attestations/{{keyid}}"),
        *((verb, f"{alias}/{{alias}}") for verb in ("get", "put", "delete")),
        *(("get", f"{alias}{rest}") for rest in ("", "/{alias}/history")),
        ("post", version),
        *((verb, f"{model}/{{name}}/blobs/{{digest}}") for verb in ("get", "put")),
        ("put", "/internal/v1/models/{name}/versions"),
        ("put", "/internal/v1/blobs/{digest}"),
        ("put", "/internal/v1/holds"),
        ("get", "/internal/v1/events"),
    ]


def test_every_operation_is_tried(app: Service) -> None:
    found = {(verb, path) for path, item in document_of(app)["paths"].items() for verb in item}
    assert found == {*operations()}


@pytest.fixture
async def http(trainer: Trainer) -> httpx2.AsyncClient:
    """Someone who may do everything, where something is there to be done."""
    await trainer.make(1, 2)
    made = await trainer.http.put("/v1/models/flight-delays/aliases/champion", json={"version": 1})
    assert made.status_code == 201
    return trainer.http


@pytest.mark.parametrize(("verb", "path"), operations())
async def test_no_request_is_too_much(app: Service, http: httpx2.AsyncClient, verb: str, path: str) -> None:
    loop = asyncio.get_running_loop()
    operation = schemathesis.openapi.from_dict(document_of(app))[path][verb]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(_cases(operation))
    def send(case: schemathesis.Case[Any]) -> None:
        asyncio.run_coroutine_threadsafe(_send(http, case), loop).result(30)

    await asyncio.to_thread(send)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["\0", "\ud800", "../x", "latest", "sha256:", "x" * 5000, 10**300, 1e308, -0.0, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places_of(document: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every member and item of a document."""
    match document:
        case dict():
            inner = list(document.items())
        case list():
            inner = list(enumerate(document))
        case _:
            inner = []
    return [place for key, value in inner for place in ((*way, key), *places_of(value, (*way, key)))]


async def test_a_manifest_with_anything_in_any_place_is_registered_or_refused(http: httpx2.AsyncClient) -> None:
    loop = asyncio.get_running_loop()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(st.sampled_from(places_of(manifest_of())), json_values)
    def send(place: tuple[Any, ...], value: Any) -> None:
        asyncio.run_coroutine_threadsafe(_register(http, place, value), loop).result(30)

    await asyncio.to_thread(send)


async def _register(http: httpx2.AsyncClient, place: tuple[Any, ...], value: Any) -> None:
    manifest = manifest_of()
    at: Any = manifest
    for part in place[:-1]:
        at = at[part]
    at[place[-1]] = value
    answer = await http.put("/internal/v1/models/flight-delays/versions", content=json.dumps(manifest), headers=JSON)
    assert answer.status_code in (200, 201, 400, 422), (place, value, answer.text)
    if answer.status_code == 201:
        read = (await http.get(answer.headers["location"])).json()
        assert read == answer.json() == read | manifest


def _cases(operation: APIOperation[Any, Any, Any, Any]) -> st.SearchStrategy[schemathesis.Case[Any]]:
    """What the document allows and what it does not, of things that are there and of things that are not."""
    there = {parameter.name: THERE[parameter.name] for parameter in operation.path_parameters}
    modes = [GenerationMode.POSITIVE]
    if operation.body or list(operation.query):
        modes.append(GenerationMode.NEGATIVE)  # of a request that says nothing, nothing can be wrong
    strategies = [
        operation.as_strategy(mode, path_parameters=given)
        for mode in modes
        for given in ([there, None] if there else [None])
    ]
    return st.one_of(strategies)


async def _send(http: httpx2.AsyncClient, case: schemathesis.Case[Any]) -> None:
    asked = case.as_transport_kwargs(base_url="http://service")
    asked["content"] = asked.pop("data", None)
    asked.pop("cookies", None)
    try:
        answer = await http.request(**{name: value for name, value in asked.items() if value is not None})
    except (httpx2.InvalidURL, UnicodeEncodeError, ValueError):
        return  # no client can send it
    assert answer.status_code < 500, (asked, answer.text)
    if answer.status_code >= 400:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == answer.status_code
        assert problem["code"]
