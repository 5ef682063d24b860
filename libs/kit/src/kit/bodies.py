"""Request bodies at the edge of an application: never more bytes than the route takes, and only strict JSON."""

from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit import errors, problems, strictjson

LENGTH = "content-length"
JSON_LIMIT = 1 << 20
"""Bytes of a JSON body on a control route."""


class ClientGone(Exception):
    """The client left before its body was whole; there is nobody to answer."""


async def read(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    Raises:
        errors.TooLarge: more was announced, or came.
        ClientGone: the client left.
    """
    announced = header_of(scope, b"content-length")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise errors.TooLarge(f"The body may have {limit} bytes at most.")
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return _within(message.get("body", b""), limit)
    parts: list[bytes] = []
    size = 0
    async for part in chunks(_again(message, receive)):
        size += len(part)
        if size > limit:
            raise errors.TooLarge(f"The body may have {limit} bytes at most.")
        parts.append(part)
    return b"".join(parts)


def header_of(scope: Scope, name: bytes) -> str:
    """The first header of that name (in lower case), or nothing: without an object for all of them."""
    for given, value in scope["headers"]:
        if given == name:
            return bytes(value).decode("latin-1")
    return ""


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise errors.TooLarge(f"The body may have {limit} bytes at most.")
    return body


async def chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The body piece by piece, as it arrives."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        if part := message.get("body", b""):
            yield part


class StrictBodies:
    """Reads and checks the body before the application does, unless the route streams it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = scope["state"].get("match")
        if match is None or match.access is None or match.access.streams or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        try:
            if Headers(scope=scope).get("content-encoding", "identity") != "identity":
                raise errors.UnsupportedMedia("This route takes no encoded bodies.")
            body = await read(scope, receive, limit=JSON_LIMIT)
            if body and _is_json(scope):
                strictjson.loads(body)
        except ClientGone:
            return
        except errors.Error as exc:
            await answer_problem(scope, send, exc)
            return
        await self._app(scope, _replay(body, receive), send)


def _is_json(scope: Scope) -> bool:
    media = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")


def _replay(body: bytes, receive: Receive) -> Receive:
    return _again({"type": "http.request", "body": body, "more_body": False}, receive)


def _again(message: Message, receive: Receive) -> Receive:
    """What was taken already, and then what comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return message

    return again


async def answer_problem(scope: Scope, send: Send, exc: BaseException) -> None:
    """Answer a request of a raw route with the problem that `exc` is."""
    status, headers, body = problems.problem_of(exc, scope["state"].get("request_id"))
    await answer(send, status, body, headers)


async def answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Send a whole answer at once."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items() if name != LENGTH]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
