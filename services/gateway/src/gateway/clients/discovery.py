"""Where the copies of the services are just now, and which of them want requests.

A name is looked up again and again, since whoever runs the services adds and removes copies behind it. Each copy is
asked how it is: one that is about to end says so while it still answers, and gets nothing new from then on.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

import aiohttp
from prometheus_client import Gauge
from yarl import URL

from gateway.domain.endpoints import Endpoint, Origin, Pool
from kit import reconcile

log = logging.getLogger(__name__)
FIRST = timedelta(seconds=2)
"""How long the first requests wait for names to be looked up."""
PATIENCE = timedelta(seconds=1)
AT_ONCE = 64
"""Copies asked at one time."""
ENDPOINTS = Gauge("trainyard_gateway_endpoints", "Addresses of a service.", ["service"])
READY = Gauge("trainyard_gateway_ready_endpoints", "Addresses of a service that want requests.", ["service"])

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""`(name, port)` → all its addresses. Raises OSError when nobody knows them."""


async def addresses_of(name: str, port: int) -> Sequence[str]:
    """All addresses of a name, of both kinds."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class Discovery:
    """Keeps the pools of all services current."""

    def __init__(
        self, pools: Mapping[str, Pool], session: aiohttp.ClientSession, resolve: Resolve = addresses_of
    ) -> None:
        self._pools = pools
        self._session = session
        self._resolve = resolve
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def begin(self) -> None:
        """Look all names up once, as far as that is done soon."""
        lookups = [self._look_up(service, pool, origin) for service, pool, origin in self._names()]
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST.total_seconds()):
                await asyncio.gather(*lookups)

    async def keep_current(self, *, resolve_every: float, ask_every: float, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(reconcile.every(resolve_every, partial(self._look_up, *it), stop=stop))
                for it in self._names()
            ]
            loops.append(group.create_task(self._keep_asking(ask_every, stop)))
            await stop.wait()
            # A look-up may hang for half a minute, and nobody needs it any more.
            for loop in loops:
                loop.cancel()

    def _names(self) -> list[tuple[str, Pool, Origin]]:
        return [
            (service, pool, origin)
            for service, pool in self._pools.items()
            for origin in pool.origins
            if not origin.is_address
        ]

    async def _look_up(self, service: str, pool: Pool, origin: Origin) -> None:
        try:
            addresses = await self._resolve(origin.host, origin.port)
        except (OSError, UnicodeError) as exc:
            # Whoever answers for names is away more often than the services are: what was known goes on.
            log.warning("name not found", extra={"upstream": service, "host": origin.host, "error": str(exc)})
            return
        if addresses and pool.know(origin, addresses):
            log.info("addresses", extra={"upstream": service, "host": origin.host, "found": list(addresses)})

    async def _keep_asking(self, seconds: float, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began = loop.time()
            await self.ask()
            await reconcile.first(stop, seconds=max(0.0, began + seconds - loop.time()))

    async def ask(self) -> None:
        """Ask every copy once whether it wants requests."""
        await asyncio.gather(
            *(self._ask(service, it) for service, pool in self._pools.items() for it in pool.endpoints)
        )
        for service, pool in self._pools.items():
            ENDPOINTS.labels(service).set(len(pool.endpoints))
            READY.labels(service).set(sum(it.ready for it in pool.endpoints))

    async def _ask(self, service: str, endpoint: Endpoint) -> None:
        async with self._turns:
            ready = await self._is_ready(endpoint)
        if endpoint.says(ready=ready):
            log.info("endpoint", extra={"upstream": service, "url": endpoint.url, "ready": ready})

    async def _is_ready(self, endpoint: Endpoint) -> bool:
        headers = {} if endpoint.host is None else {"host": endpoint.host}
        url = URL(endpoint.url + "/readyz", encoded=True)
        try:
            async with (
                asyncio.timeout(PATIENCE.total_seconds()),
                self._session.get(
                    url, headers=headers, allow_redirects=False, server_hostname=endpoint.name
                ) as response,
            ):
                await response.content.read(1 << 16)  # what is longer costs it this connection
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
