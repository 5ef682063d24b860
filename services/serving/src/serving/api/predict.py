"""`POST /v1/deployments/{name}/predict`: rows in, predictions out. Plain ASGI, since every microsecond is asked for."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import orjson
from starlette.types import Receive, Scope, Send

from kit import bodies, errors
from kit.callers import Access, Role
from kit.routes import RawRoute
from models import rows
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature
from serving.api import deadlines, documents, hurry, predict_kinds, strict
from serving.api.predict_kinds import Read as Read
from serving.domain import arrow
from serving.replica.table import Answering, Live, Table

LIMIT = 4 << 20
"""Bytes of a request."""
LARGE, MANY = 64 << 10, 1000
"""Bytes of a request, and rows of an answer, above which a thread reads or writes it, and the loop serves others."""
MEMBERS = frozenset({"rows", "columns"})
Given = TypeVarTuple("Given")
Made = TypeVar("Made")
JSON = {"content-type": "application/json"}
ARROW = {"content-type": arrow.MEDIA_TYPE}
Write = Callable[[Live, Answering, Prediction], bytes]


class RequestInvalid(errors.Invalid): ...


def routes() -> list[RawRoute]:
    path = "/v1/deployments/{name}/predict"
    post, viewer = frozenset({"POST"}), Access(Role.VIEWER)
    return [RawRoute(post, path, predict, viewer, documents.PREDICT, is_prompt=True, refuses=hurry.refuses)]


async def predict(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request, or say as a problem why not."""
    try:
        arrays, is_arrow = predict_kinds.reads(scope) or arrays_of_json, predict_kinds.wants_arrow(scope)
        written = predict_kinds.written if is_arrow else written_as_json
        body = await answered(scope, receive, await read(scope, receive), arrays, written)
    except bodies.ClientGone:
        return
    except Exception as exc:  # noqa: BLE001 - the edge of this application: whatever it is, it becomes a problem
        await bodies.answer_problem(scope, send, exc)
        return
    await bodies.answer(send, 200, body, ARROW if is_arrow else JSON)


async def read(scope: Scope, receive: Receive) -> bytes:
    """The whole body, which is not encoded."""
    if bodies.header_of(scope, b"content-encoding") not in ("", "identity"):
        raise errors.UnsupportedMedia("This route takes no encoded bodies.")
    return await bodies.read(scope, receive, limit=LIMIT)


async def answered(scope: Scope, receive: Receive, content: bytes, read: Read, write: Write) -> bytes:
    """The answer to a body, which `read` makes arrays of and `write` an answer of the prediction."""
    began = time.perf_counter()
    live, one = found(scope)
    until = await admitted(scope, live, one)
    arrays = await beside(len(content) > LARGE, read, one.resident.signature, content)
    prediction = await asked(live, one, arrays, began, receive, until)
    return await beside(prediction.size > MANY, write, live, one, prediction)


def found(scope: Scope) -> tuple[Live, Answering]:
    """Who answers: the version that the path names, or one by weight.

    Raises:
        DeploymentNotFound, VersionNotServed: nobody.
        ModelNotReady: nobody yet.
    """
    table: Table = scope["state"]["parts"].table
    live = table.find(scope["state"]["caller"].project, scope["path_params"]["name"])
    version = scope["path_params"].get("version")
    return live, live.choose(scope["state"]["request_id"]) if version is None else live.of_version(version)


def arrays_of_json(signature: AnySignature, content: bytes) -> Arrays:
    """What a body of JSON asks."""
    return rows.arrays_of(signature, document_of(content))


def written_as_json(live: Live, one: Answering, prediction: Prediction) -> bytes:
    """An answer as JSON."""
    return orjson.dumps(
        {
            "predictions": one.resident.signature.answers_of(prediction),
            "model": one.target.model,
            "version": one.target.version,
            "revision": live.desired.revision,
        }
    )


async def beside(is_much: bool, work: Callable[[*Given], Made], *given: *Given) -> Made:
    """What `work` makes: on a thread if it is much."""
    return await asyncio.to_thread(work, *given) if is_much else work(*given)


async def admitted(scope: Scope, live: Live, one: Answering) -> float | None:
    """When the client stops waiting, if it says so. Before anything is parsed: to refuse must cost next to nothing.

    Raises:
        Overloaded: the model would not come to it in time.
        DeadlineExceeded: the loop did not.
        TimeoutInvalid: the client says something that is no time.
    """
    until = deadlines.until(scope)
    try:
        await one.admit(until)
    except errors.Error:
        live.refused.inc()
        one.tally.refused(0.0)
        raise
    return until


async def asked(
    live: Live, one: Answering, arrays: Arrays, began: float, receive: Receive, until: float | None = None
) -> Prediction:
    """The model's answers, accounted to its revision. `until` is what `admitted` said."""
    count = one.resident.signature.rows_in(arrays)
    try:
        work = one.predict(arrays, count, until)
        prediction = await (work if one.resident.is_quick(count) else _unless_gone(work, receive))
    except errors.Error:
        live.refused.inc()
        one.tally.refused(time.perf_counter() - began)
        raise
    seconds = time.perf_counter() - began
    live.seconds.observe(seconds)
    live.rows.inc(count)
    one.tally.answered(count, seconds)
    return prediction


async def _unless_gone(work: Coroutine[Any, Any, Prediction], receive: Receive) -> Prediction:
    """What takes its time is given up when nobody waits for it any more.

    Raises:
        bodies.ClientGone: nobody does.
    """
    answer, gone = asyncio.create_task(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise bodies.ClientGone
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


def document_of(content: bytes) -> dict[str, Any]:
    """The request's JSON.

    Raises:
        errors.Malformed: it is none, or says NaN, or is no Unicode, or gives a member twice.
        RequestInvalid: it has members that mean nothing here.
    """
    document = strict.loads(content)
    if not isinstance(document, dict):
        raise RequestInvalid("A request is an object.", errors=[{"pointer": "#", "detail": "must be an object"}])
    if unknown := document.keys() - MEMBERS:
        places: list[errors.Place] = [
            {"pointer": f"#/{name[:100]}", "detail": "is not known here"} for name in sorted(unknown)[:20]
        ]
        raise RequestInvalid("A request has rows, and columns when rows are arrays.", errors=places)
    return document
