"""What a project may have is never exceeded, whatever happens at one time; and what it took adds up."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import date
from typing import TypeVar

import pytest
import sqlalchemy as sa
from makers import spec_of
from requests_made import TTL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import leases
from kit.db import make_engine
from kit.ids import uuid7
from kit.reconcile import first
from kit.testing import DatabaseUrl
from trainer import actions, admission
from trainer.domain.jobs import Job, Pinned, Reason, Why
from trainer.domain.leased import Attempt, AttemptPhase
from trainer.domain.resources import Amount, Resources
from trainer.domain.sharing import Quota
from trainer.store import tables
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.ledger import LedgerStore
from trainer.store.shares import TAKEN, ShareStore

SUBMITS, WORKERS, RUNNERS = 1000, 4, 2
POLL = 0.2
T = TypeVar("T")
ALL = (7500, 20 << 30, 5, 6)
LIMITS = Quota(**dict(zip((*TAKEN, "jobs"), ALL, strict=True)))
OVER = Why(Reason.USER_ERROR, "It is over.")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4])
async def test_a_thousand_jobs_at_once_never_take_more_than_their_quota(
    engine: AsyncEngine, database_url: DatabaseUrl, seed: int
) -> None:
    """Each change of what is taken is checked by the database itself, and compared with what is there by a watcher."""
    many = make_engine(database_url("trainer"), connections=WORKERS + RUNNERS + 2)
    crowd = Crowd(many, random.Random(seed))
    try:
        async with many.begin() as connection:
            await ShareStore(connection).put("blue", LIMITS)
            await connection.execute(sa.text(TRIPWIRE))
        await asyncio.gather(*(crowd.submit() for _ in range(SUBMITS)))
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(crowd.reconcile())
            for number in range(RUNNERS):
                group.create_task(crowd.work(f"h{number}"))
            group.create_task(crowd.watch())
        async with many.begin() as connection:
            standing = await ShareStore(connection).standing("blue")
            assert (standing.used, standing.jobs) == (Amount(), 0)
            assert not await ShareStore(connection).recount("blue")
            assert await ShareStore(connection).in_queue("blue") == 0
            total = await LedgerStore(connection).total("blue", first=date(2020, 1, 1), last=date(2099, 1, 1))
            seconds = sa.func.extract("epoch", tables.attempts.c.finished_at - tables.attempts.c.started_at)
            took = sa.func.sum(seconds * tables.attempts.c.cpu_millis / 1000)
            assert total.attempts == crowd.attempts >= SUBMITS
            assert total.core_seconds == pytest.approx(float((await connection.execute(sa.select(took))).scalar_one()))
        assert crowd.seen[-1] == 0
        assert max(crowd.seen) > 1, "several ran at one time"
    finally:
        async with many.begin() as connection:
            await connection.execute(sa.text("ALTER TABLE quotas DROP CONSTRAINT IF EXISTS tripwire"))
        await many.dispose()


TRIPWIRE = """ALTER TABLE quotas ADD CONSTRAINT tripwire CHECK (
    used_cpu_millis BETWEEN 0 AND cpu_millis AND used_memory_bytes BETWEEN 0 AND memory_bytes
    AND used_gpus BETWEEN 0 AND gpus AND used_jobs BETWEEN 0 AND jobs)"""


async def _finish(connection: AsyncConnection, attempt: Attempt) -> Attempt:
    place = (connection, attempt.project, attempt.id)
    await actions.finish_attempt(*place, fence=attempt.fence, exit_code=1, result=None, failure=OVER)
    return await AttemptStore(connection).get(attempt.project, attempt.id)


class Crowd:
    """Replicas of the reconciler, and runners, that do nothing but what a quota sees of them."""

    def __init__(self, engine: AsyncEngine, random: random.Random) -> None:
        self._engine = engine
        self._random = random
        self._over = 0
        self.attempts = 0
        self.seen: list[int] = []
        # Hints, as the database gives them: without one, everybody looks now and then.
        self._due, self._queued = asyncio.Event(), asyncio.Event()
        self._gate = asyncio.Semaphore(WORKERS)

    async def submit(self) -> None:
        asked = Resources(
            cpu_millis=self._random.choice([250, 500, 1000, 2000, 3000]),
            memory_bytes=self._random.choice([None, 1 << 20, 8 << 30]),
            gpus=self._random.choice([0, 0, 0, 1, 5]),
        )
        spec = spec_of(resources=asked, priority=self._random.choice([-1, 0, 0, 1]))
        async with self._gate, self._engine.begin() as connection:
            store = JobStore(connection)
            job = await store.add(uuid7(), project="blue", subject="ada", spec=spec)
            pinned = Pinned("flights@3", "sha256:" + "d" * 64)
            await connection.execute(
                sa.update(tables.jobs)
                .where(tables.jobs.c.id == job.id)
                .values(pinned_reference=pinned.reference, pinned_digest=pinned.digest)
            )

    async def reconcile(self) -> None:
        while self._over < SUBMITS:
            async with self._engine.begin() as connection:
                due = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
            for lease in due:
                waits = await self._surely(lambda connection, lease=lease: self._look(connection, lease))
                if waits is not None:
                    await admission.look_again(self._engine, waits)
                self._queued.set()
            if not due:
                self._due.clear()
                await first(self._due, seconds=POLL)

    async def _look(self, connection: AsyncConnection, lease: leases.Lease) -> Job | None:
        """The job, if it waits behind others."""
        store = JobStore(connection)
        job = await store.find(lease.project, lease.id)
        assert job is not None
        attempt = await AttemptStore(connection).newest(job)
        if attempt is None or attempt.phase in {AttemptPhase.STOPPED, AttemptPhase.WITHDRAWN}:
            turn = await admission.admit(connection, lease, job, attempt)
            return job if turn is admission.Turn.BEHIND else None
        await store.record(lease, job, due_in=None)
        return None

    async def work(self, host: str) -> None:
        while self._over < SUBMITS:
            async with self._engine.begin() as connection:
                got = await actions.lease_attempts(connection, host, slots=3, forgotten_but=None, ttl=TTL)
            for work in got:
                attempt = work.granted.attempt
                ended = await self._surely(lambda connection, attempt=attempt: _finish(connection, attempt))
                self.attempts += 1
                self._over += ended.phase is AttemptPhase.FAILED
                self._due.set()
            if not got:
                self._queued.clear()
                await first(self._queued, seconds=POLL)

    async def _surely(self, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """On a slow machine a lock is waited for too long: then nothing was done, and it is done again."""
        while True:
            try:
                async with self._engine.begin() as connection:
                    return await act(connection)
            except OperationalError:
                continue

    async def watch(self) -> None:
        """What is there at one moment, beside what is said to be taken."""
        live = tables.attempts.c.phase.in_(["queued", "running"])
        sums = [
            sa.func.coalesce(sa.func.sum(tables.attempts.c[it]), 0) for it in ("cpu_millis", "memory_bytes", "gpus")
        ]
        query = sa.select(tables.quotas.c.used_cpu_millis, sa.func.count(), *sums)
        joined = query.select_from(tables.quotas.outerjoin(tables.attempts, live)).group_by(tables.quotas.c.project)
        while not self.seen or self._over < SUBMITS or self.seen[-1]:
            async with self._engine.begin() as connection:
                said, running, cpu, memory, gpus = (await connection.execute(joined)).one()
            jobs = 0 if cpu == 0 else running
            assert said == cpu
            assert all(it <= most for it, most in zip((cpu, memory, gpus, jobs), ALL, strict=True))
            self.seen.append(jobs)
            await first(self._queued, seconds=POLL)
