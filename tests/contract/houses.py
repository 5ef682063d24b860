"""All services of the suite in one process: real applications, real HTTP on loopback, real loops where a test asks."""

import asyncio
import contextlib
import importlib
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from kit.app import Service
from kit.callers import Role
from kit.clients import Principal, ServiceClient, http_client
from kit.server import listen, serve
from kit.testing import SERVICES, EngineOf, KeyFolder
from kit.tokens import load_signer
from trainyard_local.home import Home
from trainyard_local.suite import Suite

ADA = Principal("blue", Role.EDITOR, "ada")
EVE = Principal("red", Role.ADMIN, "eve")
"""Of another project."""
PATIENCE = timedelta(seconds=60)
"""For what takes a moment, on a machine that does nothing else."""


class House:
    """The services, each at a port of its own."""

    services = SERVICES

    def __init__(self, folder: Path, sockets: Path, keys: KeyFolder, engine_of: EngineOf) -> None:
        self._sockets = {service: listen("127.0.0.1", 0) for service in SERVICES}
        self._keys = keys
        self._engine_of = engine_of
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._clients = contextlib.AsyncExitStack()
        home = Home(folder / "home")
        home.make()
        ports = {service: it.getsockname()[1] for service, it in self._sockets.items()}
        self._suite = Suite(home, sockets, ports, dict.fromkeys(SERVICES, ""), 0, home.objects.as_uri())

    def env(self, service: str) -> dict[str, str]:
        """What the supervisor tells a service, with the keys of the tests."""
        own = {"PRIVATE_KEY_FILE": self._keys.private(service), "PUBLIC_KEYS_FILE": self._keys.public}
        return self._suite.env(service) | {f"{service.upper()}_{name}": str(value) for name, value in own.items()}

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._suite.ports[service]}"

    def app(self, service: str) -> Service:
        """The application by its settings of the environment."""
        made: Service = _part(service, "app").create_app(_part(service, "settings").Settings())
        return made

    async def start(self, *services: str, loops: bool = False) -> None:
        """Serve the APIs, each on an empty database; with `loops`, let them do their work as well."""
        for service in services:
            await self._engine_of(service)
            self._run(_serve(self.app(service), self._sockets[service], self._stop))
            if loops:
                self._run(_part(service, "app").loops(_part(service, "settings").Settings(), self._stop))

    async def ask(self, consumer: str, provider: str) -> ServiceClient:
        """What `consumer` talks to `provider` with."""
        http = await self._clients.enter_async_context(http_client(self.url(provider)))
        return ServiceClient(http, load_signer(self._keys.private(consumer)), provider)

    async def user(self, service: str, principal: Principal = ADA) -> httpx2.AsyncClient:
        """What the gateway passes on of a user."""
        token = load_signer(self._keys.private("gateway")).mint(
            service, principal.project, principal.role, principal.subject
        )
        headers = {"authorization": f"Bearer {token}"}
        client = httpx2.AsyncClient(base_url=self.url(service), headers=headers, timeout=30, trust_env=False)
        return await self._clients.enter_async_context(client)

    async def close(self) -> None:
        await self._clients.aclose()
        self._stop.set()
        await asyncio.gather(*self._tasks)
        for it in self._sockets.values():
            it.close()

    def _run(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))


def _part(service: str, name: str) -> Any:
    return importlib.import_module(f"{service}.{name}")


async def _serve(app: Service, at: socket.socket, stop: asyncio.Event) -> None:
    await serve(app, host="", port=0, drain=timedelta(0), grace=timedelta(seconds=5), stop=stop, sockets=[at])


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
