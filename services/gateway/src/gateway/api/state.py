"""What the application hands to its routes."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from gateway.actions import KeyRing
from gateway.api.document import ApiDocument
from gateway.api.exchange import Watch
from gateway.clients.services import Services
from gateway.clients.upstreams import Upstreams
from gateway.domain.access import Grant


@dataclass(frozen=True)
class Rules:
    """What is allowed to keys."""

    usually: timedelta
    """How long a key lasts when nobody says."""
    longest: timedelta
    most: int
    """Live keys of a project."""


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    ring: KeyRing
    upstreams: Upstreams
    services: Services
    document: ApiDocument
    rules: Rules
    watch: Watch


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


async def _grant(request: Request) -> Grant:
    grant: Grant = request.state.grant
    return grant


PartsDep = Annotated[Parts, Depends(_parts)]
GrantDep = Annotated[Grant, Depends(_grant)]
