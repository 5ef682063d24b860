"""What the tests of pipelines share."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.testing import EngineOf, KeyFolder

sys.path.insert(0, str(Path(__file__).parent))  # for `neighbours` and `worlds`

from worlds import World


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("pipelines")


@pytest.fixture
async def world(engine: AsyncEngine, key_folder: KeyFolder) -> AsyncIterator[World]:
    async with World(engine, key_folder) as it:
        yield it
