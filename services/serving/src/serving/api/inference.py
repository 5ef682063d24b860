"""The Open Inference Protocol, version 2: `/v2/…`. A model there is a deployment here, in its caller's project.

Errors are in the protocol's own shape, `{"error": "…"}`.
"""

import time
import zlib
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kit import bodies, errors, problems
from kit.callers import Access, Role
from kit.routes import VERBS, RawRoute
from models import rows
from models.signature import Arrays, Prediction
from serving.api import documents, strict
from serving.api.predict import JSON, LARGE, LIMIT, MANY, asked, beside
from serving.domain import tensors
from serving.replica.table import Answering, Live, Table

LENGTH = "inference-header-content-length"
OCTETS = "application/octet-stream"
SERVER = {"name": "trainyard", "version": version("trainyard-serving"), "extensions": ["binary_tensor_data"]}
Answer = tuple[int, dict[str, str], bytes]
Handle = Callable[[Scope, Receive], Awaitable[Answer]]


class NotOfTheProtocol(errors.NotFound):
    """Nothing of the protocol that is spoken here."""


def routes() -> list[RawRoute]:
    get, post = frozenset({"GET"}), frozenset({"POST"})
    model = "/v2/models/{name}"
    listed: list[tuple[frozenset[str], str, Handle, dict[str, Any]]] = [
        (get, "/v2", _server, documents.SERVER),
        (get, "/v2/", _server, {}),
        (get, "/v2/health/live", _live, documents.LIVE),
        (get, "/v2/health/ready", _ready, documents.READY),
    ]
    for path in (model, model + "/versions/{version}"):
        listed += [
            (get, path, _metadata, documents.of_model(documents.METADATA, path)),
            (get, f"{path}/ready", _model_ready, documents.of_model(documents.MODEL_READY, path)),
            (post, f"{path}/infer", _infer, documents.of_model(documents.INFER, path)),
        ]
    # Whatever else is asked for below is not there in the protocol's shape too.
    listed += [(frozenset(VERBS), path, _nothing, {}) for path in ("/v2", "/v2/{rest:path}")]
    viewer = Access(Role.VIEWER)
    return [RawRoute(methods, path, _speaking(handle), viewer, shown) for methods, path, handle, shown in listed]


def _speaking(handle: Handle) -> ASGIApp:
    """The handler as an application whose errors are the protocol's."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, headers, body = await handle(scope, receive)
        except bodies.ClientGone:
            return
        except Exception as exc:  # noqa: BLE001 - the edge of this application: whatever it is, it becomes an answer
            status, headers, body = error_of(exc)
        await bodies.answer(send, status, body, headers)

    return endpoint


def error_of(exc: Exception) -> Answer:
    """An error as the protocol has it. What we did not expect says nothing of itself."""
    status, headers, body = problems.problem_of(exc)
    document = orjson.loads(body)
    said = str(document.get("detail", document["title"]))
    places = [f"{place['pointer']} {place['detail']}" for place in document.get("errors", ())]
    if places:
        said = f"{said} {'; '.join(places)}"
    status = 400 if status == 422 else status
    return status, {**headers, **JSON}, orjson.dumps({"error": said})


async def _nothing(scope: Scope, receive: Receive) -> Answer:
    raise NotOfTheProtocol("There is nothing here.")


async def _server(scope: Scope, receive: Receive) -> Answer:
    return 200, JSON, orjson.dumps(SERVER)


async def _live(scope: Scope, receive: Receive) -> Answer:
    return 200, JSON, b'{"live":true}'


async def _ready(scope: Scope, receive: Receive) -> Answer:
    ready = scope["state"]["parts"].replica.lacking() is None
    return 200 if ready else 503, JSON, orjson.dumps({"live": True, "ready": ready})


async def _model_ready(scope: Scope, receive: Receive) -> Answer:
    name = scope["path_params"]["name"]
    try:
        _found(scope)
    except errors.Unavailable:
        return 503, {**JSON, "retry-after": "1"}, orjson.dumps({"name": name, "ready": False})
    return 200, JSON, orjson.dumps({"name": name, "ready": True})


async def _metadata(scope: Scope, receive: Receive) -> Answer:
    live, one = _found(scope)
    signature = one.resident.signature
    document = {
        "name": live.desired.name,
        "versions": sorted({str(it.target.version) for it in live.answering}),
        "platform": f"trainyard_{one.target.file.format}",
        "inputs": [
            {"name": column.name, "datatype": tensors.datatype_of(column), "shape": [-1, 1]}
            for column in signature.inputs
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shape}
            for name, datatype, shape in tensors.outputs_of(signature)
        ],
    }
    return 200, JSON, orjson.dumps(document)


async def _infer(scope: Scope, receive: Receive) -> Answer:
    headers = Headers(scope=scope)
    body = await bodies.read(scope, receive, limit=LIMIT)
    began = time.perf_counter()
    live, one = _found(scope)
    # A packed body may be any size: what it unpacks to is not known yet.
    is_much = len(body) > LARGE or "content-encoding" in headers
    request, arrays = await beside(is_much, _read, headers, body, one)
    prediction = await asked(live, one, arrays, began, receive)
    identity = request.id or scope["state"]["request_id"]
    return await beside(len(prediction.values) > MANY, _written, live, one, request, prediction, identity)


def _read(headers: Headers, body: bytes, one: Answering) -> tuple[tensors.Asked, Arrays]:
    request = _request(headers, _decoded(headers, body), one)
    return request, rows.arrays_of_tensors(one.resident.signature, request.tensors)


def _written(live: Live, one: Answering, request: tensors.Asked, prediction: Prediction, identity: str) -> Answer:
    described, parts = tensors.write(tensors.tensors_of(one.resident.signature, prediction), request)
    document = {
        "model_name": live.desired.name,
        "model_version": str(one.target.version),
        "id": identity,
        "parameters": {"revision": live.desired.revision},
        "outputs": described,
    }
    text = orjson.dumps(document)
    if not parts:
        return 200, JSON, text
    return 200, {"content-type": OCTETS, LENGTH: str(len(text))}, b"".join([text, *parts])


def _found(scope: Scope) -> tuple[Live, Answering]:
    """Who answers: the version that the path names, or one by weight."""
    table: Table = scope["state"]["parts"].table
    live = table.find(scope["state"]["caller"].project, scope["path_params"]["name"])
    named = scope["path_params"].get("version")
    return live, live.choose(scope["state"]["request_id"]) if named is None else live.of_version(named)


def _request(headers: Headers, content: bytes, one: Answering) -> tensors.Asked:
    """JSON, or JSON of an announced length and tensors behind it."""
    given = headers.get(LENGTH)
    length = len(content) if given is None else int(given) if given.isascii() and given.isdigit() else -1
    if not 0 <= length <= len(content):
        raise errors.Malformed("Inference-Header-Content-Length is not the length of the JSON in this body.")
    if length == 0 and given is not None:
        return tensors.read_raw(one.resident.signature, content)
    return tensors.read(strict.loads(content[:length]), content[length:])


def _decoded(headers: Headers, content: bytes) -> bytes:
    """The body as it was before its encoding, of which the protocol's client uses one.

    Raises:
        errors.UnsupportedMedia: it is another one.
        errors.TooLarge: it unpacks to more than is taken.
        errors.Malformed: it does not unpack.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding == "identity":
        return content
    if encoding != "gzip":
        raise errors.UnsupportedMedia("A body here is plain, or packed with gzip.")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, LIMIT + 1)
    except zlib.error:
        raise errors.Malformed("The body is not packed with gzip.") from None
    if len(unpacked) > LIMIT:
        raise errors.TooLarge(f"The body may have {LIMIT} bytes at most.")
    if not unpacker.eof or unpacker.unused_data:
        raise errors.Malformed("The body is not one whole gzip stream.")
    return unpacked
