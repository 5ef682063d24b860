"""The merged API document, kept beside the services' own, which may come and go."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Send

from gateway.clients.services import Services
from gateway.domain.openapi import merge
from kit import errors, reconcile
from kit.bodies import answer

log = logging.getLogger(__name__)
VERSION = "0.1.0"
AGAIN = 0.5
"""Seconds between two questions to services that have not answered, on behalf of readers."""


class ApiDocument:
    """Asks every service for its document now and then; the last good answer of each counts."""

    def __init__(self, services: Services, own: Mapping[str, Any]) -> None:
        self._services = services
        self._documents: dict[str, Mapping[str, Any] | None] = {"gateway": own, **dict.fromkeys(services.names)}
        self._merged = self._merge()
        self._lock = asyncio.Lock()
        self._asked = float("-inf")

    @property
    def whole(self) -> bool:
        """Whether every service has answered once."""
        return None not in self._documents.values()

    async def answer(self, send: Send) -> None:
        """Answer with the document. While a service is missing it is asked again, for whoever waits for it."""
        if not self.whole:
            await self._catch_up()
        headers = {"content-type": "application/json", "cache-control": "no-cache"}
        await answer(send, 200, self._merged, headers)

    async def _catch_up(self) -> None:
        async with self._lock:
            loop = asyncio.get_running_loop()
            if not self.whole and loop.time() - self._asked >= AGAIN:
                await self.refresh()
                self._asked = loop.time()

    async def refresh(self) -> None:
        await asyncio.gather(*map(self._refresh, self._services.names))
        self._merged = self._merge()

    def _merge(self) -> bytes:
        return orjson.dumps(merge(self._documents, version=VERSION))

    async def _refresh(self, service: str) -> None:
        try:
            self._documents[service] = await self._services.openapi(service)
        except errors.Unavailable as exc:
            log.info("no API document", extra={"upstream": service, "why": exc.detail})

    async def keep_current(self, *, every: float, stop: asyncio.Event) -> None:
        """Refresh until `stop`: soon while a service is missing, rarely afterwards."""
        while not stop.is_set():
            await self.refresh()
            await reconcile.first(stop, seconds=every if self.whole else min(every, 2.0))
