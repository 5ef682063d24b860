"""A lease that is kept while work takes longer than it: by its owner, as long as that is its owner."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases
from kit.db import NOW, make_engine
from kit.testing import eventually

from .lamps.store.tables import lamps
from .test_reconcile import claim, claim_one, make

SHORT = timedelta(milliseconds=90)


async def test_a_lease_is_kept_while_the_block_runs_and_no_longer(engine: AsyncEngine) -> None:
    await make(engine)
    lease = await claim_one(engine, ttl=SHORT)
    asked = asyncio.get_running_loop().time()
    async with leases.kept(engine, lamps, lease, ttl=SHORT):
        await eventually(lambda: asyncio.get_running_loop().time() > asked + 3 * SHORT.total_seconds())
        assert await claim(engine) == []
    await eventually(lambda: claim(engine))


async def test_a_block_whose_lease_is_lost_is_ended_whatever_it_says_then(engine: AsyncEngine) -> None:
    await make(engine)
    lease = await claim_one(engine)

    async def work() -> None:
        async with leases.kept(engine, lamps, lease, ttl=SHORT):
            async with engine.begin() as connection:
                await connection.execute(sa.update(lamps).values(fence=lamps.c.fence + 1, lease_until=NOW))
            try:
                await asyncio.Event().wait()
            finally:
                raise ZeroDivisionError

    with pytest.raises(leases.LeaseLost):
        await asyncio.wait_for(work(), 5)
    assert len(await claim(engine)) == 1


async def test_what_the_block_raises_arrives_as_it_is(engine: AsyncEngine) -> None:
    await make(engine)
    lease = await claim_one(engine)

    async def work() -> None:
        async with leases.kept(engine, lamps, lease, ttl=SHORT):
            raise ZeroDivisionError from KeyError("why")

    with pytest.raises(ZeroDivisionError) as caught:
        await work()
    assert isinstance(caught.value.__cause__, KeyError)


async def test_without_the_database_the_work_goes_on(engine: AsyncEngine) -> None:
    await make(engine)
    lease = await claim_one(engine)
    refused = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        refused += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    away = make_engine(f"postgresql+psycopg://nobody@127.0.0.1:{port}/away")
    async with server, leases.kept(away, lamps, lease, ttl=SHORT):
        await eventually(lambda: refused >= 2)
    await away.dispose()
