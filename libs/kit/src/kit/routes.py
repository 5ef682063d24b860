"""Which route a request is for, known before any router runs: FastAPI's and the raw ASGI ones alike."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp, Scope

from kit import errors, problems
from kit.callers import Access, Caller, access_of

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


KEPT, KEPT_PATH = 1024, 256
"""Paths that are found without a search, and the longest of them."""


Refuses = Callable[[Scope, Caller, Mapping[str, str]], errors.Error | None]
"""Whether a request of this caller, with these parameters of the path, cannot be answered now."""
Now = Callable[[Scope, Caller, Mapping[str, str], Mapping[bytes, bytes], bytes], tuple[bytes, bytes] | None]
"""The answer, 200, to a request of this caller, with these parameters of the path, headers (each there once) and body:
lines of its head, and its body. None: nothing was done, and the request is to be asked as all others are."""
Show = Callable[[errors.Error, str | None], tuple[int, dict[str, str], bytes]]
"""The status, headers and body of an error, with the request's id."""


@dataclass(frozen=True)
class RawRoute:
    """A plain ASGI app behind a path template such as `/v1/deployments/{name}/predict`.

    Its path parameters arrive in `scope["path_params"]`; it reads and limits its own body.
    `openapi` is the path item of the merged document, since no framework can see this route.
    """

    methods: frozenset[str]
    path: str
    endpoint: ASGIApp
    access: Access
    openapi: Mapping[str, object] = field(default_factory=dict)
    is_prompt: bool = False
    """Whether it mostly answers without waiting for anything but its request: then it is asked without a task.
    Until it first waits, it must not need one, as `asyncio.timeout` does."""
    refuses: Refuses | None = None
    """Of a prompt route: asked before anything else is done with a request (kit.refusals)."""
    shows: Show = problems.problem_of
    """How it says so."""
    at_once: Now | None = None
    """Of a prompt route: what it can answer without waiting, in a hurry (kit.at_once)."""


@dataclass(frozen=True)
class Match:
    path: str
    """The route's template, safe as a metric's label."""
    access: Access | None
    endpoint: ASGIApp | None = None
    """Set for raw routes only."""
    params: Mapping[str, str] = field(default_factory=dict)
    is_prompt: bool = False
    refuses: Refuses | None = None
    shows: Show = problems.problem_of
    at_once: Now | None = None


@dataclass(frozen=True)
class _Entry:
    pattern: re.Pattern[str]
    methods: frozenset[str]
    match: Match


class RouteTable:
    """All routes of a service, raw ones first."""

    def __init__(self, api: FastAPI, raw: Sequence[RawRoute]) -> None:
        self._found: dict[tuple[str, str], Match] = {}
        self._entries = [_raw_entry(route) for route in raw] + [
            _entry(route) for route in iter_route_contexts(api.routes)
        ]

    def find(self, method: str, path: str) -> Match | None:
        """The route that will answer, or None: then nobody will, whatever the caller may do."""
        if (known := self._found.get((method, path))) is not None:
            return known
        found = self._sought(method, path)
        if found is not None and len(path) <= KEPT_PATH:
            if len(self._found) >= KEPT:
                self._found.clear()
            self._found[method, path] = found
        return found

    def _sought(self, method: str, path: str) -> Match | None:
        for entry in self._entries:
            if method in entry.methods and (found := entry.pattern.match(path)):
                if entry.match.endpoint is None:
                    return entry.match
                return replace(entry.match, params=found.groupdict())
        return None

    def __iter__(self) -> Iterator[tuple[str, str, Access | None]]:
        """Each (verb, path template, what it asks of its caller)."""
        for entry in self._entries:
            for method in sorted(entry.methods):
                yield method, entry.match.path, entry.match.access


def _raw_entry(route: RawRoute) -> _Entry:
    pattern, _, _ = compile_path(route.path)
    methods = route.methods | {"HEAD"} if "GET" in route.methods else route.methods
    match = Match(
        route.path,
        route.access,
        route.endpoint,
        is_prompt=route.is_prompt,
        refuses=route.refuses,
        shows=route.shows,
        at_once=route.at_once,
    )
    return _Entry(pattern, methods, match)


def _entry(route: RouteContext) -> _Entry:
    pattern, _, _ = compile_path(route.path or "")
    return _Entry(pattern, frozenset(route.methods or ()), Match(route.path or "", access_of(route.endpoint)))
