"""What the tests of serving share."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.testing import DatabaseUrl, EngineOf, KeyFolder

sys.path.insert(0, str(Path(__file__).parent))  # for `registries`, `worlds` and `servings_at_work`

from registries import Registry, serving_registry
from servings_at_work import Serving

from serving.settings import Settings


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("serving")


@pytest.fixture
def registry_at(key_folder: KeyFolder) -> Iterator[tuple[Registry, str]]:
    with serving_registry(key_folder) as found:
        yield found


@pytest.fixture
def registry(registry_at: tuple[Registry, str]) -> Registry:
    return registry_at[0]


@pytest.fixture
def settings(
    registry_at: tuple[Registry, str], database_url: DatabaseUrl, key_folder: KeyFolder, tmp_path: Path
) -> Callable[..., Settings]:
    """Settings of a process of its own; a `name` is its folder."""

    def make(name: str = "one", **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "database_url": database_url("serving"),
            "private_key_file": key_folder.private("serving"),
            "public_keys_file": key_folder.public,
            "registry_url": registry_at[1],
            "work_dir": tmp_path / name,
            "poll_seconds": 0.2,
        }
        return Settings(**values | changes)

    return make


@pytest.fixture
async def serving(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine
) -> AsyncIterator[Serving]:
    """A process with everything in it, as the laptop has one."""
    async with Serving.started(settings(), key_folder) as it:
        yield it
