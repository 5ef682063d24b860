"""A raw route as a function: from a request to status, headers and body, with errors in the shape of its protocol."""

from collections.abc import Awaitable, Callable

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kit import bodies, problems
from serving.api import encodings
from serving.api.predict import JSON, LARGE, beside

Answer = tuple[int, dict[str, str], bytes]
Handle = Callable[[Scope, Receive], Awaitable[Answer]]


def speaking(handle: Handle, error_of: Callable[[Exception], Answer]) -> ASGIApp:
    """The handler as an application. Its answers are packed for those who ask for that."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, headers, body = await handle(scope, receive)
            if len(body) >= encodings.WORTH and (encoding := _packing(scope)) is not None:
                body = await beside(len(body) > LARGE, encodings.packed, body, encoding)
                headers = {**headers, "content-encoding": encoding, "vary": "accept-encoding"}
        except bodies.ClientGone:
            return
        except Exception as exc:  # noqa: BLE001 - the edge of this application: whatever it is, it becomes an answer
            status, headers, body = error_of(exc)
        await bodies.answer(send, status, body, headers)

    return endpoint


def refusal(exc: Exception) -> tuple[int, dict[str, str], str]:
    """Status, headers and words of an error, for protocols that have a sentence for it and know no 422.

    What we did not expect says nothing of itself.
    """
    status, headers, body = problems.problem_of(exc)
    document = orjson.loads(body)
    said = str(document.get("detail", document["title"]))
    places = [f"{place['pointer']} {place['detail']}" for place in document.get("errors", ())]
    return 400 if status == 422 else status, {**headers, **JSON}, f"{said} {'; '.join(places)}".rstrip()


def _packing(scope: Scope) -> str | None:
    return encodings.packing(Headers(scope=scope).get("accept-encoding", ""))
