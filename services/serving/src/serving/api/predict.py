"""`POST /v1/deployments/{name}/predict`: rows in, predictions out. Plain ASGI, since every microsecond is asked for."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

from starlette.types import Receive, Scope, Send

from kit import bodies, errors
from kit.callers import Access, Role
from kit.routes import RawRoute
from models.signature import Arrays, Prediction
from serving.api import at_once, deadlines, documents, hurry, predict_kinds
from serving.api.answering import LARGE as LARGE
from serving.api.answering import MANY as MANY
from serving.api.answering import RequestInvalid as RequestInvalid
from serving.api.answering import arrays_of_json as arrays_of_json
from serving.api.answering import document_of as document_of
from serving.api.answering import written_as_json as written_as_json
from serving.api.predict_kinds import Read as Read
from serving.api.watching import Watching
from serving.domain import arrow
from serving.replica.table import Answering, Live, Table

LIMIT = 4 << 20
"""Bytes of a request."""
Given = TypeVarTuple("Given")
Made = TypeVar("Made")
JSON = {"content-type": "application/json"}
ARROW = {"content-type": arrow.MEDIA_TYPE}
Write = Callable[[Live, Answering, Prediction], bytes]


def routes() -> list[RawRoute]:
    path = "/v1/deployments/{name}/predict"
    post, viewer = frozenset({"POST"}), Access(Role.VIEWER)
    return [
        RawRoute(
            post,
            path,
            predict,
            viewer,
            documents.PREDICT,
            is_prompt=True,
            refuses=hurry.refuses,
            at_once=at_once.predicted,
        )
    ]


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
    with Watching(scope, live, one, began) as watching:
        until = await admitted(watching)
        known, arrays = scope["state"].get("read", (None, None))
        if known is not one or arrays is None:
            arrays = await beside(len(content) > LARGE, read, one.resident.signature, content)
        prediction = await asked(watching, arrays, receive, until)
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


async def beside(is_much: bool, work: Callable[[*Given], Made], *given: *Given) -> Made:
    """What `work` makes: on a thread if it is much."""
    return await asyncio.to_thread(work, *given) if is_much else work(*given)


async def admitted(watching: Watching) -> float | None:
    """When the client stops waiting, if it says so. Before anything is parsed: to refuse must cost next to nothing.

    Raises:
        Overloaded: the model would not come to it in time.
        DeadlineExceeded: the loop did not.
        TimeoutInvalid: the client says something that is no time.
    """
    until = deadlines.until(watching.scope)
    began = time.perf_counter()
    try:
        await watching.one.admit(until)
    except errors.Error:
        watching.refused()
        raise
    watching.admitted(time.perf_counter() - began)
    return until


async def asked(watching: Watching, arrays: Arrays, receive: Receive, until: float | None = None) -> Prediction:
    """The model's answers. `until` is what `admitted` said."""
    one, count = watching.one, watching.asks(arrays)
    try:
        work = one.predict(arrays, count, until, watching.spent)
        prediction = await (work if one.resident.is_quick(count) else _unless_gone(work, receive))
    except errors.Error:
        watching.refused()
        raise
    watching.answers(prediction)
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
