"""What the application hands to its routes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from kit.blobs import BlobStore
from kit.live import Live


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    blobs: BlobStore
    output_bytes: int
    heartbeat_ttl: timedelta
    live: Live
    """Tells who follows a job, in any process of the API, that it has said something."""
    queued: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an attempt may wait for a runner. A hint: who waits for one looks every second as well."""
    draining: Callable[[], bool] = lambda: False
    """Whether the process is about to end: nobody is made to wait any longer."""


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
