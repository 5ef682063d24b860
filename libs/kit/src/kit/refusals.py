"""What is refused before it becomes a request of any application: to say no to a crowd must cost next to nothing.

A raw route may say of a request, from its head alone, that it cannot be answered now (`RawRoute.refuses`). It is asked
once the request is whole, for callers who have been let in before (kit.at_once); all others go the long way.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus

from starlette.types import Scope

from kit import errors, telemetry
from kit.callers import Caller
from kit.routes import Match, Show

Known = Callable[[str], Caller | None]
"""Whose token this is, if that is known without looking closer."""
KEPT = 256
_ID = "00000000-0000-4000-8000-000000000000"
_ID_BYTES = _ID.encode("ascii")


def nobody(token: str) -> Caller | None:
    """Of an application that remembers no token."""
    return None


class Refusals:
    def __init__(self) -> None:
        self._made: dict[tuple[Show, type[errors.Error], str, timedelta | None], tuple[int, bytes]] = {}
        """Answers that were given, with an id of nobody in them."""

    def __call__(self, scope: Scope, match: Match, error: errors.Error) -> bytes:
        """The whole answer on a connection that is kept. Says and counts it."""
        identity, context, parent = telemetry.named(scope)
        status, content = self._answer(match.shows, error, identity)
        telemetry.answered(scope, match.path, status, 0.0, identity, context, parent)
        return content

    def _answer(self, shows: Show, error: errors.Error, identity: str) -> tuple[int, bytes]:
        if len(identity) != len(_ID):
            status, headers, body = shows(error, identity)
            return status, whole(status, {**headers, "x-request-id": identity}, body)
        key = shows, type(error), error.detail, error.retry_after
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= KEPT:
                self._made.clear()
            status, headers, body = shows(error, _ID)
            made = self._made[key] = status, whole(status, {**headers, "x-request-id": _ID}, body)
        status, content = made
        return status, content.replace(_ID_BYTES, identity.encode("ascii"))


def whole(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """An answer as it is sent."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""])
    return head.encode("latin-1") + body
