"""How much work waits, as metrics: of the whole table, whoever asks, and nothing where nobody knows."""

import asyncio
import math

import sqlalchemy as sa
from prometheus_client import REGISTRY

from kit import backlog
from kit.db import make_engine
from kit.testing import EngineOf, eventually

from .lamps.store.tables import lamps
from .test_reconcile import make


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"table": "lamps", **labels})


async def test_what_is_due_and_each_phase_is_shown(engine_of: EngineOf) -> None:
    engine, stop = await engine_of("lamps"), asyncio.Event()
    watching = asyncio.create_task(backlog.watch(engine, due=lamps, counted=lamps, stop=stop))
    await eventually(lambda: shown("trainyard_due_rows") == 0)
    assert shown("trainyard_due_age_seconds") == 0
    stop.set()
    await watching


async def test_a_database_that_is_away_shows_no_old_numbers() -> None:
    engine, stop = make_engine("postgresql+psycopg://nobody:x@127.0.0.1:1/none"), asyncio.Event()
    watching = asyncio.create_task(backlog.watch(engine, due=lamps, counted=lamps, stop=stop))
    await eventually(lambda: math.isnan(shown("trainyard_due_rows") or 0))
    assert math.isnan(shown("trainyard_due_age_seconds") or 0)
    stop.set()
    await watching
    await engine.dispose()


async def test_a_table_that_is_only_counted_shows_nothing_due(engine_of: EngineOf) -> None:
    engine, stop = await engine_of("lamps"), asyncio.Event()
    await make(engine)
    watching = asyncio.create_task(backlog.watch(engine, counted=lamps, stop=stop))
    await eventually(lambda: shown("trainyard_rows", phase="dark") == 1)
    stop.set()
    await watching
    async with engine.begin() as connection:
        await connection.execute(sa.delete(lamps))
    await backlog.show_phases(engine, lamps)
    assert shown("trainyard_rows", phase="dark") == 0  # a phase that was left is shown as empty
