"""What the raw routes say of themselves in the OpenAPI document: no framework can see them."""

from collections.abc import Mapping
from typing import Any

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {**_NAME, "name": "version"}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
_ERROR = {"description": "Why not.", "content": _json(_object(error=_TEXT))}
_PROBLEM = {
    "description": "Why not.",
    "content": {"application/problem+json": {"schema": _object("title", "status", title=_TEXT, status=_WHOLE)}},
}


def _operation(
    name: str,
    summary: str,
    answer: Mapping[str, Any],
    *,
    tag: str,
    failure: Mapping[str, Any],
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "tags": [tag],
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "The answer.", "content": _json(answer)}, "default": failure},
    }
    return said if body is None else {**said, "requestBody": {"required": True, "content": body}}


_ROW = {"type": "object", "additionalProperties": _SCALAR}
_REQUEST = {
    "oneOf": [_object(rows=_array(_ROW)), _object(columns=_array(_TEXT), rows=_array(_array(_SCALAR)))],
    "example": {"rows": [{"carrier": "B6", "distance": 1069, "scheduled_at": "2013-07-04T17:00:00Z"}]},
}
_ANSWER = _object(predictions=_array({"type": "object"}), model=_TEXT, version=_WHOLE, revision=_WHOLE)
PREDICT = {
    "parameters": [_NAME],
    "post": _operation(
        "predict",
        "Ask a deployment for predictions of rows",
        _ANSWER,
        tag="deployments",
        failure=_PROBLEM,
        body=_json(_REQUEST),
    ),
}

_TENSOR = _object(name=_TEXT, datatype=_TEXT, shape=_array(_WHOLE))
_GIVEN = _object(
    "name",
    "datatype",
    "shape",
    name=_TEXT,
    datatype=_TEXT,
    shape=_array(_WHOLE),
    data={"type": "array"},
    parameters={"type": "object"},
)
_INFERENCE = _object("inputs", id=_TEXT, inputs=_array(_GIVEN), outputs=_array(_object(name=_TEXT)))
_INFERRED = _object(model_name=_TEXT, model_version=_TEXT, id=_TEXT, outputs=_array(_GIVEN))
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def _protocol(name: str, summary: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"get": _operation(name, summary, answer, tag="inference protocol", failure=_ERROR)}


_FLAG = {"type": "boolean"}
SERVER = _protocol("server_metadata", "The server", _object(name=_TEXT, version=_TEXT, extensions=_array(_TEXT)))
LIVE = _protocol("server_live", "Whether the server lives", _object(live=_FLAG))
READY = _protocol("server_ready", "Whether the server can answer", _object(live=_FLAG, ready=_FLAG))
MODEL_READY = _protocol("model_ready", "Whether a deployment can answer", _object(name=_TEXT, ready=_FLAG))
METADATA = _protocol(
    "model_metadata",
    "What a deployment takes and answers",
    _object(name=_TEXT, versions=_array(_TEXT), platform=_TEXT, inputs=_array(_TENSOR), outputs=_array(_TENSOR)),
)
INFER = {
    "post": _operation(
        "infer",
        "Ask a deployment with tensors, as JSON or as bytes behind it",
        _INFERRED,
        tag="inference protocol",
        failure=_ERROR,
        body={**_json(_INFERENCE), **_BINARY},
    )
}


def of_model(item: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The path item with its parameters; operations of a version's path have names of their own."""
    versioned = "{version}" in path
    named = {
        verb: {**operation, "operationId": f"{operation['operationId']}{'_of_version' if versioned else ''}"}
        for verb, operation in item.items()
    }
    return {"parameters": [_NAME, _VERSION] if versioned else [_NAME], **named}
