"""What the gateway itself asks the services: how they are, what their APIs are, and what they wrote down."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson

from gateway.clients.exchanges import Outgoing
from gateway.clients.upstreams import ServiceUnavailable, Upstreams
from kit import errors, telemetry
from kit.roles import Caller, Role
from kit.tokens import Signer

T = TypeVar("T")
PATIENCE = timedelta(seconds=3)
# What must be gone before its project is. The rest (jobs, runs, uploads) is history or belongs to one of these.
NOUNS = {"ingest": "datasets", "registry": "models", "serving": "deployments", "pipelines": "pipelines"}


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
        return await self._each(self.names, self._readiness)

    async def _readiness(self, service: str) -> dict[str, Any]:
        try:
            _, document = await self._ask(Outgoing(service, "GET", "/readyz", []))
        except errors.Unavailable:
            return {"ready": False, "reason": "not answering"}
        return document if isinstance(document, dict) else {"ready": False, "reason": "not understood"}

    async def openapi(self, service: str) -> Mapping[str, Any]:
        """The API document of a service."""
        status, document = await self._ask(Outgoing(service, "GET", "/openapi.json", []))
        if status != 200 or not isinstance(document, dict) or "paths" not in document:
            raise ServiceUnavailable(f"The service {service} has no API document just now.")
        return document

    async def used(self, caller: Caller, project: str) -> list[str]:
        """The nouns of which the project has something."""
        asker = Caller(project, Role.VIEWER, caller.subject, caller.issuer)

        async def has_any(service: str) -> bool:
            return bool(await self._items(service, asker, f"/v1/{NOUNS[service]}?page_size=1"))

        return [NOUNS[service] for service, found in (await self._each(list(NOUNS), has_any)).items() if found]

    async def audit(self, caller: Caller, *, limit: int, token: str | None) -> dict[str, list[dict[str, Any]]]:
        """A page of each service's audit rows, the newest first.

        Raises:
            ServiceUnavailable: one of them is not answering.
        """
        query = {"page_size": str(limit)} | ({} if token is None else {"page_token": token})

        return await self._each(
            self.names, lambda service: self._items(service, caller, f"/internal/v1/audit?{urlencode(query)}")
        )

    async def _each(self, services: Sequence[str], ask: Callable[[str], Awaitable[T]]) -> dict[str, T]:
        return dict(zip(services, await asyncio.gather(*map(ask, services)), strict=True))

    async def _items(self, service: str, caller: Caller, target: str) -> list[dict[str, Any]]:
        """What a list holds, asked for on behalf of `caller`."""
        token = self._signer.mint(service, caller.project, caller.role, caller.subject)
        said = {"authorization": f"Bearer {token}", "x-request-id": telemetry.request_id.get()}
        headers = [(name.encode(), value.encode()) for name, value in said.items() if value is not None]
        status, document = await self._ask(Outgoing(service, "GET", target, headers))
        items = document.get("items") if isinstance(document, dict) else None
        if status != 200 or not isinstance(items, list):
            raise ServiceUnavailable(f"The service {service} answered {status}, which does not help here.")
        return items

    async def _ask(self, request: Outgoing) -> tuple[int, Any]:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()), self._upstreams.send(request) as response:
                return response.status, orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
            raise ServiceUnavailable(f"The service {request.service} is not answering.") from None
