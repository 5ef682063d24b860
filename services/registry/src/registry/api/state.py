"""What the application hands to its routes."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from kit.blobs import BlobStore


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    blobs: BlobStore
    turns: asyncio.Semaphore
    """Taken before a connection: a hundred who register must not keep the pool from all others."""
    file_bytes: int
    """Of the largest file."""


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
