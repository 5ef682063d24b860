"""What the application hands to its routes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Request

from kit import errors
from kit.blobs import BlobStore
from registry.api.uploads import Uploads


class TooManyWaiting(errors.Unavailable): ...


class Turns:
    """Taken before a connection: a hundred who register one model must not keep the pool from all others."""

    def __init__(self, count: int, patience: timedelta = timedelta(seconds=10)) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience.total_seconds()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """
        Raises:
            TooManyWaiting: nobody gave one back in time; perhaps the database stands still.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise TooManyWaiting("Too many wait to change something here.") from None
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    blobs: BlobStore
    turns: Turns
    looks: Turns
    """For looking into files that users have sent."""
    uploads: Uploads
    file_bytes: int
    """Of the largest file."""
    key: Mapping[str, Any] = field(repr=False)
    """The private JWK that attests what is registered."""


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
