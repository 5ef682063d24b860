"""The front of the gateway: whose key it is, whether it comes too often, and how many requests are under way."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.actions import SERVICE, KeyRing
from gateway.domain.access import KeyNotAccepted, caller_of
from gateway.domain.keys import read_key
from gateway.domain.limits import Buckets, Places, Verdict
from gateway.domain.requests import operation_of
from kit.callers import Caller


class Admission:
    """Knows API keys for kit.guard, and leaves in the request's state what the answer has to say."""

    def __init__(self, ring: KeyRing, buckets: Buckets, places: Places) -> None:
        self._ring = ring
        self._buckets = buckets
        self._places = places

    async def authenticate(self, scope: Scope, token: str) -> Caller:
        """Whose key this is, if it may do what is asked, now."""
        key = read_key(token)
        if key is None:
            raise KeyNotAccepted("This is not an API key.")
        grant = self._ring.admit(key, operation_of(scope["method"], scope["path"]))
        verdict = self._buckets.take(grant.key_id, time.monotonic())
        scope["state"]["verdict"] = verdict
        verdict.check()
        self._places.take(grant.key_id)
        scope["state"]["place"] = grant.key_id
        return caller_of(grant, SERVICE)

    def leave(self, scope: Scope) -> None:
        """Give back the place that the request took."""
        if (key_id := scope["state"].pop("place", None)) is not None:
            self._places.give_back(key_id)


class Front:
    """Outside of everything: gives places back, and tells each client how much it has left."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def telling(message: Message) -> None:
            verdict: Verdict | None = state.get("verdict")
            if message["type"] == "http.response.start" and verdict is not None:
                message["headers"] = [*message["headers"], *verdict.headers()]
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            self._admission.leave(scope)
