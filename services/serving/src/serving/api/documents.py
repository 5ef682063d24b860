"""What the raw routes say of themselves in the OpenAPI document: no framework can see them."""

from collections.abc import Mapping
from typing import Any

from serving.domain import arrow, npy

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
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_PREDICT = _operation(
    "predict",
    "Ask a deployment for predictions of rows",
    _ANSWER,
    tag="deployments",
    failure=_PROBLEM,
    body={**_json(_REQUEST), arrow.MEDIA_TYPE: _BYTES, npy.MEDIA_TYPE: _BYTES},
)
_PREDICT["responses"]["200"]["content"][arrow.MEDIA_TYPE] = _BYTES
PREDICT = {"parameters": [_NAME], "post": _PREDICT}

_ANY = _array({})
_INSTANCES = {
    **_object("instances", instances=_ANY, signature_name=_TEXT),
    "example": {"instances": [{"carrier": "B6", "distance": 1069, "scheduled_at": "2013-07-04T17:00:00Z"}]},
}
V1 = {
    "parameters": [_NAME],
    "post": _operation(
        "predict_v1",
        "Ask a deployment as the first version of KServe's protocol does",
        _object(predictions=_ANY),
        tag="inference protocol",
        failure=_ERROR,
        body=_json(_INSTANCES),
    ),
}
_SPLIT = _object("columns", "data", columns=_array(_TEXT), data=_array(_ANY), index=_ANY)
_COLUMNS = {"type": "object", "additionalProperties": _ANY}
_FORMS = {
    "oneOf": [
        _object(dataframe_split=_SPLIT),
        _object(dataframe_records=_array(_ROW)),
        _object(instances={"oneOf": [_ANY, _COLUMNS]}),
        _object(inputs={"oneOf": [_ANY, _COLUMNS]}),
    ],
    "example": {"dataframe_split": {"columns": ["carrier", "distance"], "data": [["B6", 1069], ["UA", 719]]}},
}
_OF_MLFLOW = {"description": "Why not.", "content": _json(_object(error_code=_TEXT, message=_TEXT))}
INVOCATIONS = {
    "parameters": [_NAME],
    "post": _operation(
        "invocations",
        "Ask a deployment as MLflow's scoring server is asked",
        _object(predictions=_ANY),
        tag="deployments",
        failure=_OF_MLFLOW,
        body={**_json(_FORMS), "text/csv": {"schema": _TEXT}},
    ),
}
PING = {
    "parameters": [_NAME],
    "get": {
        "tags": ["deployments"],
        "operationId": "ping",
        "summary": "Whether a deployment can answer, as MLflow's scoring server says it",
        "responses": {"200": {"description": "It can: an empty line."}, "default": _OF_MLFLOW},
    },
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
_BINARY = {"application/octet-stream": _BYTES}


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
_CONFIGURED = _array(_object(name=_TEXT, data_type=_TEXT, dims=_array(_WHOLE)))
CONFIG = _protocol(
    "model_config",
    "How a deployment is set up, as Triton says it",
    _object(name=_TEXT, platform=_TEXT, backend=_TEXT, max_batch_size=_WHOLE, input=_CONFIGURED, output=_CONFIGURED),
)
_DURATION = _object(count=_WHOLE, ns=_WHOLE)
_COMPUTE = ("compute_input", "compute_infer", "compute_output")
_MODEL_STATS = _object(
    name=_TEXT,
    version=_TEXT,
    last_inference=_WHOLE,
    inference_count=_WHOLE,
    execution_count=_WHOLE,
    inference_stats=_object(**dict.fromkeys(("success", "fail", "queue", *_COMPUTE), _DURATION)),
    batch_stats=_array(_object(batch_size=_WHOLE, **dict.fromkeys(_COMPUTE, _DURATION))),
)
_ALL_STATS = _object(model_stats=_array(_MODEL_STATS))
STATS = _protocol(
    "model_stats", "What a deployment answered since its revision began to, as Triton says it", _ALL_STATS
)
ALL_STATS = _protocol("all_stats", "What all deployments of the project answered, as Triton says it", _ALL_STATS)
_ENTRY = _object(name=_TEXT, version=_TEXT, state={"enum": ["READY", "LOADING", "UNAVAILABLE"]}, reason=_TEXT)
LOAD, UNLOAD = (
    {"post": _operation(f"repository_{name}", summary, {"type": "object"}, tag="inference protocol", failure=_ERROR)}
    for name, summary in (
        ("load", "Bring a deployment's models into the memory of this process"),
        ("unload", "Give a deployment's models up, until they are asked again"),
    )
)
INDEX = {
    "post": {
        **_operation(
            "repository_index",
            "The project's deployments, and which versions of them answer here",
            _array(_ENTRY),
            tag="inference protocol",
            failure=_ERROR,
        ),
        "requestBody": {"required": False, "content": _json({"type": "object", "properties": {"ready": _FLAG}})},
    }
}
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
