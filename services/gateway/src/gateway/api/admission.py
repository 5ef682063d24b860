"""The front of the gateway: whose key it is, whether it comes too often, and how many requests are under way."""

import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import orjson
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.state import Parts
from gateway.domain.access import KeyNotAccepted
from gateway.domain.keys import read_key
from gateway.domain.limits import Buckets, Places
from gateway.domain.requests import is_inference_protocol, operation_of
from kit import errors
from kit.callers import Caller
from kit.links import LinkVerifier, authenticator
from kit.problems import MEDIA_TYPE, code_of

REFUSED = Counter("trainyard_gateway_refused_total", "Requests with a key that were not let in.", ["code"])


class Admission:
    """Knows API keys for kit.guard, and leaves in the request's state what the answer has to say."""

    def __init__(
        self, buckets: Buckets, places: Places, links: LinkVerifier, tell: Callable[[], None] = lambda: None
    ) -> None:
        """`tell` is called when other gateways should soon hear of what was let in."""
        self._buckets = buckets
        self._tell = tell
        self._places = places
        self._by_link = authenticator(links)

    async def authenticate(self, scope: Scope, token: str) -> Caller:
        """Whose key this is, if it may do what is asked, now."""
        parts: Parts = scope["state"]["parts"]
        operation = operation_of(scope["method"], scope["path"])
        grant = parts.ring.recall(token, operation)
        key = read_key(token) if grant is None else None
        if grant is None and key is None:
            raise KeyNotAccepted("This is not an API key.")
        try:
            if key is not None:
                grant = await parts.ring.admit(key, operation)
            assert grant is not None
            self._let_in(scope, grant.key_id)
        except errors.Error as exc:
            REFUSED.labels(code_of(type(exc))).inc()
            raise
        scope["state"]["grant"] = grant
        return grant.caller

    async def authenticate_link(self, scope: Scope, token: str) -> Caller:
        """Who opens a signed URL: nobody known, so that all of a project share the limits of one key."""
        caller = await self._by_link(scope, token)
        self._let_in(scope, f"links of {caller.project}")
        return caller

    def _let_in(self, scope: Scope, who: str) -> None:
        verdict = self._buckets.take(who, time.monotonic())
        scope["state"]["answer_headers"] = verdict.headers()
        if self._buckets.shared and self._buckets.is_news(who):
            self._tell()
        if not verdict.allowed:
            verdict.check()
        self._places.take(who)
        scope["state"]["place"] = who

    def leave(self, scope: Scope) -> None:
        """Give back the place that the request took."""
        if (key_id := scope["state"].pop("place", None)) is not None:
            self._places.give_back(key_id)


class Front:
    """Outside of everything: gives places back.

    What the gateway itself refuses of the inference protocol is said as that protocol wants it, with an `error`.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answers = send
        if is_inference_protocol(scope["path"]):
            answers = _said_as_inference(scope.setdefault("state", {}), send)
        try:
            await self._app(scope, receive, answers)
        finally:
            self._admission.leave(scope)


def _said_as_inference(state: Mapping[str, Any], send: Send) -> Send:
    """What the gateway refuses by itself, in the words of the inference protocol."""
    refusal: Message | None = None

    async def saying(message: Message) -> None:
        nonlocal refusal
        if message["type"] == "http.response.start":
            if "passed_on" not in state and _is_problem(message):
                refusal = message
                return
        elif refusal is not None:
            # A problem of our own comes in one piece.
            start, refusal = refusal, None
            body = _in_protocol(message["body"])
            await send(_resized(start, len(body)))
            message = {**message, "body": body}
        await send(message)

    return saying


def _is_problem(start: MutableMapping[str, Any]) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in start["headers"]


def _in_protocol(problem: bytes) -> bytes:
    document = orjson.loads(problem)
    return orjson.dumps({"error": document.get("detail") or document["title"], **document})


def _resized(start: Message, length: int) -> Message:
    changed = {b"content-type": b"application/json", b"content-length": str(length).encode()}
    return {**start, "headers": [(name, changed.get(name, value)) for name, value in start["headers"]]}
