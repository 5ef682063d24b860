"""A service of the tests' own, with its database: see `lamps/`."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.testing import DatabaseUrl, EngineOf, KeyFolder, client_of

from .lamps.app import Settings, create_app

sys.path.append(str(Path(__file__).parent))  # its migrations are found by their name


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("lamps")


@pytest.fixture
def settings(database_url: DatabaseUrl, key_folder: KeyFolder) -> Settings:
    return Settings(
        database_url=database_url("lamps"),
        private_key_file=key_folder.private("ingest"),
        public_keys_file=key_folder.public,
    )


@pytest.fixture
def app(settings: Settings) -> Service:
    return create_app(settings)


@pytest.fixture
async def client(engine: AsyncEngine, app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, key_folder.headers("lamps")) as client:
        yield client
