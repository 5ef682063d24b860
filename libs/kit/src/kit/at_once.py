"""What is answered before any layer hears of it: a request that can be, for a caller who has been let in before.

A layer for each of id, trace, guard, route and body costs more than a small model. Here they are one function, and only
the good case of each: a head without anything unusual, a token that was verified a moment ago, an application that has
its answer at hand (`RawRoute.at_once`). Everything else, and whatever goes wrong, takes the long way from its
beginning, so that there is one place where anything is refused and said. Both ways count, time, trace and log alike.
"""

import time
from collections.abc import Mapping

from starlette.types import Scope

from kit import telemetry
from kit.callers import Access, Caller
from kit.refusals import Known, Refusals
from kit.routes import RouteTable

BEARER = b"bearer "
HELD, DIGITS = 1 << 20, 7
"""Bytes of a body that may be held, and how many digits say them."""


class AtOnce:
    def __init__(self, routes: RouteTable, known: Known) -> None:
        self._routes = routes
        self._known = known
        self._refusals = Refusals()

    def __call__(self, scope: Scope, body: bytes) -> bytes | None:
        """The whole answer on a connection that is kept: a refusal from the head alone, or what the route answers."""
        match = self._routes.find(scope["method"], scope["path"])
        if match is None or match.access is None or (match.refuses is None and match.at_once is None):
            return None
        began = time.perf_counter()
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]):
            return None
        caller = self._caller(match.access, headers)
        if caller is None:
            return None
        if match.refuses is not None and (error := match.refuses(scope, caller, match.params)) is not None:
            return self._refusals(scope, match, error)
        if match.at_once is None:
            return None
        identity, context, parent = telemetry.named_in(headers)
        scope["state"] |= {"request_id": identity, "traceparent": context}
        answer = match.at_once(scope, caller, match.params, headers, body)
        if answer is None:
            return None
        head, content = answer
        telemetry.answered(scope, match.path, 200, time.perf_counter() - began, identity, context, parent)
        return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b" % (
            head,
            len(content),
            identity.encode("ascii"),
            content,
        )

    def awaits(self, scope: Scope) -> bool:
        """Whether a body that is not whole yet is held for that: of a caller who is known, and so long at most."""
        match = self._routes.find(scope["method"], scope["path"])
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if match is None or match.access is None or match.at_once is None or not 0 < len(length) <= DIGITS:
            return False
        return int(length) <= HELD and self._caller(match.access, headers) is not None

    def _caller(self, access: Access, headers: Mapping[bytes, bytes]) -> Caller | None:
        """Who is known, and may ask."""
        given = headers.get(b"authorization", b"")
        if access.role is None or given[:7].lower() != BEARER or not given.isascii():
            return None
        caller = self._known(given[7:].decode("ascii").strip())
        if caller is None or not caller.role.at_least(access.role):
            return None
        return caller if access.issuers is None or caller.issuer in access.issuers else None
