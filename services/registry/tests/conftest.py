"""What the tests of the registry share."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.blobs import BlobStore
from kit.testing import DatabaseUrl, EngineOf, KeyFolder, client_of
from registry.app import create_app
from registry.settings import Settings
from registry.testing import Headers, Trainer

sys.path.insert(0, str(Path(__file__).parent))  # for `model_files`


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("registry")


@pytest.fixture
def store(objects_url: str) -> BlobStore:
    return BlobStore(objects_url, "registry")


@pytest.fixture
def settings(database_url: DatabaseUrl, key_folder: KeyFolder, objects_url: str) -> Settings:
    return Settings(
        database_url=SecretStr(database_url("registry")),
        private_key_file=key_folder.private("registry"),
        public_keys_file=key_folder.public,
        objects_url=objects_url,
        file_bytes=1 << 20,
    )


@pytest.fixture
def app(settings: Settings) -> Service:
    return create_app(settings)


@pytest.fixture
def headers(key_folder: KeyFolder) -> Headers:
    """`headers(role=Role.VIEWER, project="red", issuer="trainer")`: of a caller of the registry."""

    def of(**caller: Any) -> dict[str, str]:
        return key_folder.headers("registry", **caller)

    return of


@pytest.fixture
async def users(app: Service, engine: AsyncEngine, headers: Headers) -> AsyncIterator[httpx2.AsyncClient]:
    """A user who may write, at a registry without rows."""
    async with client_of(app, headers()) as client:
        yield client


@pytest.fixture
async def trainer(app: Service, engine: AsyncEngine, headers: Headers) -> AsyncIterator[Trainer]:
    async with client_of(app, headers(issuer="trainer")) as client:
        yield Trainer(client)
