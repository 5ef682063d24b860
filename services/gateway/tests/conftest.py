"""What the tests of the gateway share."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.settings import Settings
from kit.callers import Role
from kit.testing import DatabaseUrl, EngineOf, KeyFolder

from .gateways import Door, Upstream, add_key, add_project, gateway_at_work, settings_of, upstream_at_work


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


@pytest.fixture
async def settings(database_url: DatabaseUrl, key_folder: KeyFolder, upstream: Upstream) -> Settings:
    return settings_of(database_url("gateway"), key_folder, upstream.url)


@pytest.fixture
async def door(settings: Settings, blue: dict[str, str], upstream: Upstream) -> AsyncIterator[Door]:
    async with gateway_at_work(settings) as port:
        yield Door(port, blue, upstream, settings)
