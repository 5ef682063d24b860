"""The front of the gateway: whose key it is, whether it comes too often, and how many requests are under way."""

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import orjson
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.actions import SERVICE
from gateway.api.state import Parts
from gateway.domain.access import KeyNotAccepted, caller_of
from gateway.domain.keys import ApiKey, read_key
from gateway.domain.limits import Buckets, Places, Verdict
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
        key = read_key(token)
        if key is None:
            raise KeyNotAccepted("This is not an API key.")
        try:
            return await self._admit(scope, key)
        except errors.Error as exc:
            REFUSED.labels(code_of(type(exc))).inc()
            raise

    async def _admit(self, scope: Scope, key: ApiKey) -> Caller:
        parts: Parts = scope["state"]["parts"]
        grant = await parts.ring.admit(key, operation_of(scope["method"], scope["path"]))
        self._let_in(scope, grant.key_id)
        scope["state"]["grant"] = grant
        return caller_of(grant, SERVICE)

    async def authenticate_link(self, scope: Scope, token: str) -> Caller:
        """Who opens a signed URL: nobody known, so that all of a project share the limits of one key."""
        caller = await self._by_link(scope, token)
        self._let_in(scope, f"links of {caller.project}")
        return caller

    def _let_in(self, scope: Scope, who: str) -> None:
        verdict = self._buckets.take(who, time.monotonic())
        scope["state"]["verdict"] = verdict
        if self._buckets.shared and self._buckets.is_news(who):
            self._tell()
        verdict.check()
        self._places.take(who)
        scope["state"]["place"] = who

    def leave(self, scope: Scope) -> None:
        """Give back the place that the request took."""
        if (key_id := scope["state"].pop("place", None)) is not None:
            self._places.give_back(key_id)


class Front:
    """Outside of everything: gives places back, and tells each client how much it has left.

    What the gateway itself refuses of the inference protocol is said as that protocol wants it, with an `error`.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        speaks_inference = is_inference_protocol(scope["path"])
        refusal: Message | None = None

        async def telling(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "http.response.start":
                verdict: Verdict | None = state.get("verdict")
                if verdict is not None:
                    message["headers"] = [*message["headers"], *verdict.headers()]
                if speaks_inference and "passed_on" not in state and _is_problem(message):
                    refusal = message
                    return
            elif refusal is not None:
                # A problem of our own comes in one piece.
                start, refusal = refusal, None
                body = _in_protocol(message["body"])
                await send(_resized(start, len(body)))
                message = {**message, "body": body}
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            self._admission.leave(scope)


def _is_problem(start: MutableMapping[str, Any]) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in start["headers"]


def _in_protocol(problem: bytes) -> bytes:
    document = orjson.loads(problem)
    return orjson.dumps({"error": document.get("detail") or document["title"], **document})


def _resized(start: Message, length: int) -> Message:
    changed = {b"content-type": b"application/json", b"content-length": str(length).encode()}
    return {**start, "headers": [(name, changed.get(name, value)) for name, value in start["headers"]]}
