"""The Open Inference Protocol, version 2: `/v2/…`. A model there is a deployment here, in its caller's project.

Errors are in the protocol's own shape, `{"error": "…"}`.
"""

import time
from typing import Any

import orjson
from starlette.types import Receive, Scope

from kit import bodies, errors
from kit.callers import Access, Role
from kit.routes import VERBS, RawRoute
from models import rows
from models.signature import Arrays
from serving.api import at_once, documents, encodings, hurry, repository, tensor_answers
from serving.api import inference_about as about
from serving.api.predict import LARGE, LIMIT, MANY, admitted, asked, beside, found
from serving.api.speaking import Answer, Handle, refusal, speaking
from serving.api.watching import Watching
from serving.domain import tensors
from serving.replica.table import Answering

LENGTH = tensor_answers.LENGTH.encode()


class NotOfTheProtocol(errors.NotFound):
    """Nothing of the protocol that is spoken here."""


LOAD, UNLOAD = (f"/v2/repository/models/{{name}}/{what}" for what in ("load", "unload"))


def routes() -> list[RawRoute]:
    get, post = frozenset({"GET"}), frozenset({"POST"})
    model = "/v2/models/{name}"
    listed: list[tuple[frozenset[str], str, Handle, dict[str, Any]]] = [
        (get, "/v2", about.server, documents.SERVER),
        (get, "/v2/", about.server, {}),
        (get, "/v2/health/live", about.live, documents.LIVE),
        (get, "/v2/health/ready", about.ready, documents.READY),
        (post, "/v2/repository/index", repository.index, documents.INDEX),
        (post, LOAD, repository.load, documents.of_model(documents.LOAD, LOAD)),
        (post, UNLOAD, repository.unload, documents.of_model(documents.UNLOAD, UNLOAD)),
        # Before the paths of models: one that is named so is described at its version's path.
        (get, "/v2/models/stats", about.all_stats, documents.ALL_STATS),
    ]
    for path in (model, model + "/versions/{version}"):
        listed += [
            (get, path, about.metadata, documents.of_model(documents.METADATA, path)),
            (get, f"{path}/ready", about.model_ready, documents.of_model(documents.MODEL_READY, path)),
            (get, f"{path}/config", about.config, documents.of_model(documents.CONFIG, path)),
            (get, f"{path}/stats", about.stats, documents.of_model(documents.STATS, path)),
            (post, f"{path}/infer", _infer, documents.of_model(documents.INFER, path)),
        ]
    # Whatever else is asked for below is not there in the protocol's shape too.
    listed += [(frozenset(VERBS), path, _nothing, {}) for path in ("/v2", "/v2/{rest:path}")]
    viewer, editor, shows = Access(Role.VIEWER), Access(Role.EDITOR), hurry.shown(error_of)
    return [
        RawRoute(
            methods,
            path,
            speaking(handle, error_of),
            editor if path in {LOAD, UNLOAD} else viewer,
            shown,
            is_prompt=handle is _infer,
            refuses=hurry.refuses if handle is _infer else None,
            at_once=at_once.inferred if handle is _infer else None,
            shows=shows,
        )
        for methods, path, handle, shown in listed
    ]


def error_of(exc: Exception) -> Answer:
    """An error as the protocol has it."""
    status, headers, said = refusal(exc)
    return status, headers, orjson.dumps({"error": said})


async def _nothing(scope: Scope, receive: Receive) -> Answer:
    raise NotOfTheProtocol("There is nothing here.")


async def _infer(scope: Scope, receive: Receive) -> Answer:
    length, encoding = _described(scope)
    body = await bodies.read(scope, receive, limit=LIMIT)
    began = time.perf_counter()
    live, one = found(scope)
    with Watching(scope, live, one, began) as watching:
        until = await admitted(watching)
        # A packed body may be any size: what it unpacks to is not known yet.
        is_much = len(body) > LARGE or encoding != ""
        request, arrays = await beside(is_much, _read, length, encoding, body, one)
        prediction = await asked(watching, arrays, receive, until)
        identity = request.id or scope["state"]["request_id"]
        return await beside(prediction.size > MANY, tensor_answers.written, live, one, request, prediction, identity)


def _described(scope: Scope) -> tuple[str | None, str]:
    """What the headers say of the body: the length of its JSON, and how it is packed."""
    length, encoding = None, ""
    for name, value in scope["headers"]:
        if name == LENGTH:
            length = value.decode("latin-1")
        elif name == b"content-encoding":
            encoding = value.decode("latin-1")
    return length, encoding


def _read(length: str | None, encoding: str, body: bytes, one: Answering) -> tuple[tensors.Asked, Arrays]:
    request = tensor_answers.request_of(length, encodings.unpacked(body, encoding, limit=LIMIT), one)
    return request, rows.arrays_of_tensors(one.resident.signature, request.tensors)
