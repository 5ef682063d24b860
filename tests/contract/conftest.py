"""Services that meet: the real applications of several, in this process, as the supervisor sets them up."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `houses` and `compatibility`

from houses import House

from kit.testing import DatabaseUrl, EngineOf, KeyFolder
from trainyard_local import postgres as local


@pytest.fixture
async def house(
    postgres: local.Server,
    database_url: DatabaseUrl,
    engine_of: EngineOf,
    key_folder: KeyFolder,
    objects_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    """No service runs in it yet."""
    house = House(tmp_path, postgres.sockets, key_folder, engine_of)
    for service in house.services:
        for name, value in house.env(service).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", database_url(service))
        monkeypatch.setenv(f"{service.upper()}_OBJECTS_URL", objects_url)
    yield house
    await house.close()
