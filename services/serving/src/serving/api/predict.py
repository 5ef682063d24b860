"""`POST /v1/deployments/{name}/predict`: rows in, predictions out. Plain ASGI, since every microsecond is asked for."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from kit import bodies, errors
from kit.callers import Access, Role
from kit.routes import RawRoute
from models import rows
from models.signature import Arrays, Prediction
from serving.api import documents, strict
from serving.replica.table import Answering, Live, Table

LIMIT = 4 << 20
"""Bytes of a request."""
LARGE, MANY = 64 << 10, 1000
"""Bytes of a request, and rows of an answer, above which a thread reads or writes it, and the loop serves others."""
MEMBERS = frozenset({"rows", "columns"})
Given = TypeVarTuple("Given")
Made = TypeVar("Made")
JSON = {"content-type": "application/json"}


class RequestInvalid(errors.Invalid): ...


def routes() -> list[RawRoute]:
    path = "/v1/deployments/{name}/predict"
    return [RawRoute(frozenset({"POST"}), path, predict, Access(Role.VIEWER), documents.PREDICT)]


async def predict(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request, or say as a problem why not."""
    try:
        body = await _answered(scope, receive, await read(scope, receive))
    except bodies.ClientGone:
        return
    except Exception as exc:  # noqa: BLE001 - the edge of this application: whatever it is, it becomes a problem
        await bodies.answer_problem(scope, send, exc)
        return
    await bodies.answer(send, 200, body, JSON)


async def read(scope: Scope, receive: Receive) -> bytes:
    """The whole body, which is not encoded."""
    if Headers(scope=scope).get("content-encoding", "identity") != "identity":
        raise errors.UnsupportedMedia("This route takes no encoded bodies.")
    return await bodies.read(scope, receive, limit=LIMIT)


async def _answered(scope: Scope, receive: Receive, content: bytes) -> bytes:
    began = time.perf_counter()
    table: Table = scope["state"]["parts"].table
    live = table.find(scope["state"]["caller"].project, scope["path_params"]["name"])
    one = live.choose(scope["state"]["request_id"])
    arrays = await beside(len(content) > LARGE, _arrays, one, content)
    prediction = await asked(live, one, arrays, began, receive)
    return await beside(len(prediction.values) > MANY, _written, live, one, prediction)


def _arrays(one: Answering, content: bytes) -> Arrays:
    return rows.arrays_of(one.resident.signature, document_of(content))


def _written(live: Live, one: Answering, prediction: Prediction) -> bytes:
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


async def asked(live: Live, one: Answering, arrays: Arrays, began: float, receive: Receive) -> Prediction:
    """The model's answers, accounted to its revision."""
    count = len(next(iter(arrays.values())))
    try:
        work = one.resident.predict(arrays, count)
        prediction = await (work if one.resident.is_quick(count) else _unless_gone(work, receive))
    except errors.Error:
        live.refused.inc()
        raise
    live.seconds.observe(time.perf_counter() - began)
    live.rows.inc(count)
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
