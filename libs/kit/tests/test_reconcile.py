"""The loop and its leases, on lamps: each is lit once, by whichever replica has it."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases, reconcile
from kit.db import NOW
from kit.ids import uuid7
from kit.leases import Lease
from kit.testing import DatabaseUrl, eventually

from .lamps.store.tables import lamps

TTL = timedelta(seconds=30)
GONE = timedelta(seconds=-1)  # a lease that has run out as soon as it is given
FINAL = {"lit", "broken"}


async def make(engine: AsyncEngine, count: int = 1) -> None:
    rows = [{"project": "demo", "id": uuid7(), "name": f"lamp-{number:02}"} for number in range(count)]
    async with engine.begin() as connection:
        await connection.execute(sa.insert(lamps), rows)


async def claim(engine: AsyncEngine, limit: int = 10, ttl: timedelta = TTL) -> Sequence[Lease]:
    async with engine.begin() as connection:
        return await leases.lease_due(connection, lamps, limit, ttl=ttl)


async def claim_one(engine: AsyncEngine, ttl: timedelta = TTL) -> Lease:
    (lease,) = await claim(engine, ttl=ttl)
    return lease


async def settle(engine: AsyncEngine, lease: Lease, phase: str = "lit", generation: int = 1) -> bool:
    async with engine.begin() as connection:
        return await leases.record(
            connection, lamps, lease, generation=generation, final=FINAL, due_in=None, phase=phase
        )


async def want_otherwise(engine: AsyncEngine) -> None:
    """What is wanted of the lamps changes: a cancel, a new setting."""
    async with engine.begin() as connection:
        await connection.execute(sa.update(lamps).values(generation=lamps.c.generation + 1))


async def rows(engine: AsyncEngine) -> list[sa.Row[tuple[object, ...]]]:
    async with engine.begin() as connection:
        return list(await connection.execute(sa.select(lamps).order_by(lamps.c.name)))


async def phases(engine: AsyncEngine) -> list[str]:
    return [row.phase for row in await rows(engine)]


class Lighter:
    """A replica of the loop."""

    def __init__(self, engine: AsyncEngine, workers: int = 4) -> None:
        self.engine = engine
        self.lit: Counter[object] = Counter()
        self.stop = asyncio.Event()
        self.wakeup = asyncio.Event()
        self.workers = workers

    async def reconcile(self, lease: Lease) -> None:
        self.lit[lease.id] += 1
        await settle(self.engine, lease)

    async def run(self, poll: float = 0.05) -> None:
        await reconcile.controller(
            self.engine, lamps, self.reconcile, workers=self.workers, poll=poll, wakeup=self.wakeup, stop=self.stop
        )


@contextlib.asynccontextmanager
async def running(*lighters: Lighter, poll: float = 0.05) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        for lighter in lighters:
            group.create_task(lighter.run(poll))
        try:
            yield
        finally:
            for lighter in lighters:
                lighter.stop.set()
                lighter.wakeup.set()


async def are_lit(engine: AsyncEngine, count: int) -> bool:
    return await phases(engine) == ["lit"] * count


async def test_two_loops_share_the_work_and_do_each_piece_once(engine: AsyncEngine) -> None:
    before = REGISTRY.get_sample_value("trainyard_leases_total", {"table": "lamps"}) or 0
    await make(engine, 20)
    one, other = Lighter(engine, workers=2), Lighter(engine, workers=2)
    async with running(one, other):
        await eventually(lambda: are_lit(engine, 20))
    assert (one.lit + other.lit).total() == 20
    assert one.lit.total() >= 3
    assert other.lit.total() >= 3
    assert (REGISTRY.get_sample_value("trainyard_leases_total", {"table": "lamps"}) or 0) - before == 20


async def test_two_claims_at_once_share_without_waiting(engine: AsyncEngine) -> None:
    await make(engine, 4)
    async with engine.begin() as one, engine.begin() as other:
        first = await leases.lease_due(one, lamps, 2, ttl=TTL)
        second = await leases.lease_due(other, lamps, 10, ttl=TTL)
    assert (len(first), len(second)) == (2, 2)
    assert not {lease.id for lease in first} & {lease.id for lease in second}
    assert await claim(engine) == []


async def test_a_stale_lease_records_nothing(engine: AsyncEngine) -> None:
    await make(engine)
    stalled = await claim_one(engine, ttl=GONE)
    successor = await claim_one(engine)
    assert (stalled.id, stalled.fence + 1) == (successor.id, successor.fence)
    assert not await settle(engine, stalled, "broken")
    (row,) = await rows(engine)
    assert (row.phase, row.lease_until is None) == ("dark", False)  # the successor still has it
    assert await settle(engine, successor)
    assert await phases(engine) == ["lit"]


async def test_a_change_in_the_middle_makes_the_answer_to_the_old_question_count_for_nothing(
    engine: AsyncEngine,
) -> None:
    await make(engine)
    lease = await claim_one(engine)
    await want_otherwise(engine)
    assert not await settle(engine, lease, generation=1)
    # The lease was given back, and the row is still due: it is looked at again at once.
    again = await claim_one(engine)
    assert await settle(engine, again, generation=2)


async def test_what_a_stalled_replica_does_late_is_swept(engine: AsyncEngine) -> None:
    """No lease can keep a stalled replica from acting late; being looked at again is what mends it."""
    await make(engine)
    burning: set[object] = set()  # the outside world
    stalled = await claim_one(engine, ttl=GONE)
    successor = await claim_one(engine)
    assert await settle(engine, successor, "broken")
    burning.add(stalled.id)  # the stalled one comes back and lights what is broken by now
    assert not await settle(engine, stalled)

    async def put_out(lease: Lease) -> None:
        burning.discard(lease.id)
        async with engine.begin() as connection:
            await leases.record(connection, lamps, lease, generation=1, final=FINAL, due_in=None)

    async with engine.begin() as connection:
        assert await leases.wake(connection, lamps, lamps.c.phase == "broken") == 1
    sweeper = Lighter(engine)
    sweeper.reconcile = put_out  # type: ignore[method-assign]
    async with running(sweeper):
        await eventually(lambda: not burning)
    assert await phases(engine) == ["broken"]


async def test_a_final_phase_is_final_in_the_statement(engine: AsyncEngine) -> None:
    await make(engine)
    lease = await claim_one(engine)
    assert await settle(engine, lease, "broken")
    async with engine.begin() as connection:
        await leases.wake(connection, lamps)
    again = await claim_one(engine)
    assert not await settle(engine, again, "lit")
    assert await phases(engine) == ["broken"]


async def test_a_row_that_is_not_due_is_left_alone_until_it_is(engine: AsyncEngine) -> None:
    await make(engine)
    lease = await claim_one(engine)
    later = timedelta(hours=1)
    async with engine.begin() as connection:
        assert await leases.record(connection, lamps, lease, generation=1, final=FINAL, due_in=later)
    assert await claim(engine) == []
    async with engine.begin() as connection:
        assert await leases.wake(connection, lamps, lamps.c.name == "lamp-00") == 1
        assert await leases.wake(connection, lamps, lamps.c.name == "lamp-00") == 0  # it is due already
    assert len(await claim(engine)) == 1


async def test_a_claim_may_be_of_some_rows_only_and_takes_the_oldest(engine: AsyncEngine) -> None:
    await make(engine, 3)
    async with engine.begin() as connection:
        aged = NOW - timedelta(hours=1)
        await connection.execute(sa.update(lamps).where(lamps.c.name == "lamp-02").values(due_at=aged))
        (oldest,) = await leases.lease_due(connection, lamps, 1, ttl=TTL)
        (named,) = await leases.lease_due(connection, lamps, 9, ttl=TTL, where=[lamps.c.name == "lamp-01"])
    by_id = {row.id: row.name for row in await rows(engine)}
    assert (by_id[oldest.id], by_id[named.id]) == ("lamp-02", "lamp-01")


async def test_a_lease_can_be_kept_by_its_owner_alone(engine: AsyncEngine) -> None:
    await make(engine)
    stalled = await claim_one(engine, ttl=GONE)
    async with engine.begin() as connection:
        assert await leases.extend(connection, lamps, stalled, ttl=GONE)
    owner = await claim_one(engine)
    async with engine.begin() as connection:
        assert not await leases.extend(connection, lamps, stalled, ttl=TTL)
        assert await leases.extend(connection, lamps, owner, ttl=TTL)
    assert await claim(engine) == []


async def test_a_lease_that_was_given_back_is_not_taken_back(engine: AsyncEngine) -> None:
    """As by a heartbeat that was on its way when the work ended."""
    await make(engine)
    lease = await claim_one(engine)
    async with engine.begin() as connection:
        assert await leases.record(connection, lamps, lease, generation=1, final=[], due_in=timedelta(0))
    async with engine.begin() as connection:
        assert not await leases.extend(connection, lamps, lease, ttl=TTL)
    assert len(await claim(engine)) == 1


async def test_one_bad_row_is_told_and_does_not_stop_the_others(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await make(engine, 3)
    lighter = Lighter(engine, workers=1)
    usual = lighter.reconcile

    async def sometimes(lease: Lease) -> None:
        if not lighter.lit:
            lighter.lit[lease.id] += 1
            raise ZeroDivisionError
        await usual(lease)

    lighter.reconcile = sometimes  # type: ignore[method-assign]
    async with running(lighter):
        await eventually(lambda: _count(engine, "lit", 2))
    assert "failed" in [record.message for record in caplog.records if record.levelno == logging.ERROR]


async def _count(engine: AsyncEngine, phase: str, count: int) -> bool:
    return (await phases(engine)).count(phase) == count


async def test_a_database_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    stop, claims = asyncio.Event(), []

    async def away(limit: int) -> Sequence[int]:
        claims.append(limit)
        if len(claims) > 1:
            stop.set()
            return []
        raise OperationalError("select 1", {}, Exception(), connection_invalidated=True)

    async def never(item: int) -> None:
        raise AssertionError

    await reconcile.run(away, never, workers=3, poll=0.01, wakeup=asyncio.Event(), stop=stop)
    assert claims == [3, 3]
    assert [record.message for record in caplog.records] == ["database unavailable"]


async def test_work_under_way_is_finished_before_the_end_and_no_more_is_taken(engine: AsyncEngine) -> None:
    await make(engine, 3)
    lighter = Lighter(engine, workers=1)
    usual, begun, go_on = lighter.reconcile, asyncio.Event(), asyncio.Event()

    async def slowly(lease: Lease) -> None:
        begun.set()
        await go_on.wait()
        await usual(lease)

    lighter.reconcile = slowly  # type: ignore[method-assign]
    async with running(lighter):
        await begun.wait()
        lighter.stop.set()
        go_on.set()
    assert (await phases(engine)).count("lit") == 1


async def test_a_hint_wakes_a_loop_before_its_poll(engine: AsyncEngine, database_url: DatabaseUrl) -> None:
    lighter = Lighter(engine)
    url = database_url("lamps")
    listening = asyncio.create_task(reconcile.listen(url, "lamps", wakeup=lighter.wakeup, stop=lighter.stop))
    async with running(lighter, poll=3600):
        await eventually(lambda: _listens(engine))
        async with engine.begin() as connection:
            values = {"project": "demo", "id": uuid7(), "name": "late"}
            await connection.execute(sa.insert(lamps).values(values))
            await leases.hint(connection, "lamps")
        await eventually(lambda: are_lit(engine, 1))
    await listening


async def _listens(engine: AsyncEngine) -> int:
    query = "select count(*) from pg_stat_activity where query like 'LISTEN \"lamps_due\"%'"
    async with engine.begin() as connection:
        return int((await connection.execute(sa.text(query))).scalar_one())


async def test_a_listener_whose_connection_is_cut_listens_again(engine: AsyncEngine, database_url: DatabaseUrl) -> None:
    stop, wakeup = asyncio.Event(), asyncio.Event()
    listening = asyncio.create_task(reconcile.listen(database_url("lamps"), "lamps", wakeup=wakeup, stop=stop))
    await eventually(lambda: _listens(engine))
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN \"lamps_due\"%'"
    async with engine.begin() as connection:
        assert (await connection.execute(sa.text(cut))).scalar_one()
    wakeup.clear()
    await asyncio.wait_for(wakeup.wait(), 10)  # what came meanwhile is looked for
    stop.set()
    await listening


async def test_periodic_work_goes_on_after_a_failure_and_ends_when_asked() -> None:
    stop, times = asyncio.Event(), []

    async def act() -> None:
        times.append(1)
        if len(times) == 3:
            stop.set()
        raise ZeroDivisionError

    await asyncio.wait_for(reconcile.every(0.001, act, stop=stop), 5)
    assert len(times) == 3
