"""What the tests of the gateway share."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

sys.path.insert(0, str(Path(__file__).parent))  # for `gateways`

from gateways import Upstream, add_key, add_project, client, gateway_at_work, settings_of, upstream_at_work

from gateway.settings import Settings
from kit.callers import Role
from kit.testing import DatabaseUrl, EngineOf, KeyFolder


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("gateway")


@pytest.fixture
async def blue(engine: AsyncEngine) -> dict[str, str]:
    """The project `blue` with a key of each role."""
    await add_project(engine, "blue", ada=Role.ADMIN, eve=Role.EDITOR, vic=Role.VIEWER)
    subjects = {"ada": Role.ADMIN, "eve": Role.EDITOR, "vic": Role.VIEWER}
    return {role.value: await add_key(engine, "blue", subject, role) for subject, role in subjects.items()}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """One process that answers for all five services."""
    async with upstream_at_work() as it:
        yield it


@dataclass
class Door:
    """A gateway on a real server, with clients for it."""

    port: int
    keys: dict[str, str]
    upstream: Upstream
    settings: Settings

    def client(self, key: str | None = "admin") -> httpx2.AsyncClient:
        return client(self.port, self.keys.get(key, key) if key is not None else None)

    def head(self, line: str, *headers: str, key: str | None = "admin") -> bytes:
        """The head of a request, with a key."""
        known = [] if key is None else [f"Authorization: Bearer {self.keys.get(key, key)}"]
        return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *known, *headers, "", ""]).encode("latin-1")


@pytest.fixture
async def settings(database_url: DatabaseUrl, key_folder: KeyFolder, upstream: Upstream) -> Settings:
    return settings_of(database_url("gateway"), key_folder, upstream.url)


@pytest.fixture
async def door(settings: Settings, blue: dict[str, str], upstream: Upstream) -> AsyncIterator[Door]:
    async with gateway_at_work(settings) as port:
        yield Door(port, blue, upstream, settings)
