"""What the gateway itself asks the services: how they are, what their APIs are, and what they wrote down."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from gateway.clients.upstreams import Outgoing, ServiceUnavailable, Upstreams
from kit import errors
from kit.callers import Caller
from kit.tokens import Signer

PATIENCE = timedelta(seconds=3)


class Services:
    """The services as the gateway's own routes see them."""

    def __init__(self, upstreams: Upstreams, signer: Signer) -> None:
        self._upstreams = upstreams
        self._signer = signer

    @property
    def names(self) -> Sequence[str]:
        return list(self._upstreams.pools)

    async def readiness(self) -> dict[str, dict[str, Any]]:
        """What each service says of itself, asked at one time."""
        return dict(zip(self.names, await asyncio.gather(*map(self._readiness, self.names)), strict=True))

    async def _readiness(self, service: str) -> dict[str, Any]:
        try:
            _, document = await self._ask(Outgoing(service, "GET", "/readyz", []))
        except errors.Unavailable:
            return {"ready": False, "reason": "not answering"}
        return document if isinstance(document, dict) else {"ready": False, "reason": "not understood"}

    async def openapi(self, service: str) -> Mapping[str, Any]:
        """The API document of a service."""
        status, document = await self._ask(Outgoing(service, "GET", "/openapi.json", []))
        if status != 200 or not isinstance(document, dict):
            raise ServiceUnavailable(f"The service {service} has no API document just now.")
        return document

    async def get(self, service: str, caller: Caller, target: str) -> Any:
        """The JSON of a GET on behalf of `caller`."""
        token = self._signer.mint(service, caller.project, caller.role, caller.subject)
        headers = [("authorization", f"Bearer {token}")]
        status, document = await self._ask(Outgoing(service, "GET", target, headers))
        if status != 200:
            raise ServiceUnavailable(f"The service {service} answered {status}.")
        return document

    async def _ask(self, request: Outgoing) -> tuple[int, Any]:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()), self._upstreams.send(request) as response:
                return response.status, orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
            raise ServiceUnavailable(f"The service {request.service} is not answering.") from None
