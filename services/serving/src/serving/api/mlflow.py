"""What MLflow's scoring server answers, below a deployment: `invocations` and `ping`, with MLflow's errors."""

from collections.abc import Mapping

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from kit import errors
from kit.callers import Access, Role
from kit.routes import RawRoute
from models.signature import Arrays
from models.tensor_signature import AnySignature
from serving.api import documents, hurry, strict
from serving.api.predict import JSON, Read, answered, found, read
from serving.api.speaking import Answer, refusal, speaking
from serving.api.v1 import written
from serving.domain import instances

CODES: Mapping[int, str] = {
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    502: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""Of a status; all others are a BAD_REQUEST, which the scoring server knows alone."""


def routes() -> list[RawRoute]:
    viewer, path = Access(Role.VIEWER), "/v1/deployments/{name}"
    invoke, ping = speaking(_invoke, _error_of), speaking(_ping, _error_of)
    return [
        RawRoute(
            frozenset({"POST"}),
            f"{path}/invocations",
            invoke,
            viewer,
            documents.INVOCATIONS,
            is_prompt=True,
            refuses=hurry.refuses,
            shows=hurry.shown(_error_of),
        ),
        RawRoute(frozenset({"GET"}), f"{path}/ping", ping, viewer, documents.PING),
    ]


async def _invoke(scope: Scope, receive: Receive) -> Answer:
    body = await read(scope, receive)
    return 200, JSON, await answered(scope, receive, body, _reader(scope), written)


async def _ping(scope: Scope, receive: Receive) -> Answer:
    found(scope)
    return 200, JSON, b"\n"


def _reader(scope: Scope) -> Read:
    media = Headers(scope=scope).get("content-type", "application/json").partition(";")[0].strip().lower()
    match media:
        case "application/json":
            return _arrays
        case "text/csv":
            return instances.arrays_of_csv
        case _:
            raise errors.UnsupportedMedia("A body here is application/json or text/csv.")


def _arrays(signature: AnySignature, content: bytes) -> Arrays:
    return instances.arrays_of_mlflow(signature, strict.loads(content))


def _error_of(exc: Exception) -> Answer:
    status, headers, said = refusal(exc)
    return status, headers, orjson.dumps({"error_code": CODES.get(status, "BAD_REQUEST"), "message": said})
