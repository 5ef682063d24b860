"""A reconciler goes on with the trace of whoever made the row."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kit import leases, reconcile, telemetry
from kit.testing import EngineOf

from .lamps.store.tables import lamps
from .test_reconcile import make

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.mark.parametrize("kept", [TRACE, None])
async def test_what_is_done_belongs_to_the_trace_that_the_row_keeps(engine_of: EngineOf, kept: str | None) -> None:
    engine, stop, seen = await engine_of("lamps"), asyncio.Event(), list[str | None]()
    await make(engine)
    async with engine.begin() as connection:
        await connection.execute(sa.update(lamps).values(traceparent=kept))

    async def look(lease: leases.Lease) -> None:
        seen.append(telemetry.traceparent.get())
        stop.set()

    await reconcile.controller(engine, lamps, look, ttl=timedelta(seconds=5), workers=1, stop=stop)
    assert [(it or "")[3:35] == TRACE[3:35] for it in seen] == [kept is not None]
