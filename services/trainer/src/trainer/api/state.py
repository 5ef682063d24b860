"""What the application hands to its routes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from kit.blobs import BlobStore
from kit.live import Live
from trainer.clients.ingest import IngestClient
from trainer.secrecy import Secrecy


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    blobs: BlobStore
    output_bytes: int
    heartbeat_ttl: timedelta
    live: Live
    """Tells who follows a job, in any process of the API, that it has said something."""
    ingest: IngestClient | None = None
    """For pods, which reach nobody but us."""
    secrecy: Secrecy = field(default_factory=lambda: Secrecy(None))
    operators: str = "default"
    """The project whose admins set the quotas of all."""
    queued: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an attempt may wait for a runner. A hint: who waits for one looks every second as well."""
    looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Taken while the archive of a bundle is looked into: each has a file and a thread for that time."""
    draining: Callable[[], bool] = lambda: False
    """Whether the process is about to end: nobody is made to wait any longer."""


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
