"""Which route a request is for, known before any router runs: FastAPI's and the raw ASGI ones alike."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp

from kit.callers import Access, access_of

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


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


@dataclass(frozen=True)
class Match:
    path: str
    """The route's template, safe as a metric's label."""
    access: Access | None
    endpoint: ASGIApp | None = None
    """Set for raw routes only."""
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    pattern: re.Pattern[str]
    methods: frozenset[str]
    match: Match


class RouteTable:
    """All routes of a service, raw ones first."""

    def __init__(self, api: FastAPI, raw: Sequence[RawRoute]) -> None:
        self._entries = [_raw_entry(route) for route in raw] + [
            _entry(route) for route in iter_route_contexts(api.routes)
        ]

    def find(self, method: str, path: str) -> Match | None:
        """The route that will answer, or None: then nobody will, whatever the caller may do."""
        for entry in self._entries:
            if method in entry.methods and (found := entry.pattern.match(path)):
                if entry.match.endpoint is None:
                    return entry.match
                return Match(entry.match.path, entry.match.access, entry.match.endpoint, found.groupdict())
        return None

    def __iter__(self) -> Iterator[tuple[str, str, Access | None]]:
        """Each (verb, path template, what it asks of its caller)."""
        for entry in self._entries:
            for method in sorted(entry.methods):
                yield method, entry.match.path, entry.match.access


def _raw_entry(route: RawRoute) -> _Entry:
    pattern, _, _ = compile_path(route.path)
    methods = route.methods | {"HEAD"} if "GET" in route.methods else route.methods
    return _Entry(pattern, methods, Match(route.path, route.access, route.endpoint))


def _entry(route: RouteContext) -> _Entry:
    pattern, _, _ = compile_path(route.path or "")
    return _Entry(pattern, frozenset(route.methods or ()), Match(route.path or "", access_of(route.endpoint)))
