"""Jobs as a reconciler meets them, and the ways to bring one to where a test needs it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from makers import add_job, result_of
from requests_made import TTL
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import events, leases
from kit.blobs import Blob, BlobStore
from trainer import actions
from trainer.domain.jobs import Job, Why
from trainer.domain.leased import Attempt
from trainer.reconcile import Reconciler
from trainer.store import tables
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore

MODEL = b"the model"


async def pass_time(engine: AsyncEngine, by: timedelta) -> None:
    """Nobody can move the database's clock, so the rows are moved the other way."""
    async with engine.begin() as connection:
        for table in (tables.jobs, tables.attempts):
            moved = {each.name: each - by for each in table.c if isinstance(each.type, sa.DateTime) and each.nullable}
            await connection.execute(sa.update(table).values(moved))


async def lease(engine: AsyncEngine) -> leases.Lease:
    async with engine.begin() as connection:
        [leased] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
        return leased


async def turn(engine: AsyncEngine, worker: Reconciler, times: int = 10) -> None:
    """Reconcile what is due until nothing is."""
    for _ in range(times):
        async with engine.begin() as connection:
            due = await leases.lease_due(connection, tables.jobs, 10, ttl=TTL)
        if not due:
            return
        for each in due:
            await worker.reconcile(each)


async def look(engine: AsyncEngine, job: Job) -> Job:
    async with engine.begin() as connection:
        found = await JobStore(connection).find(job.project, job.id)
    assert found is not None
    return found


async def newest(engine: AsyncEngine, job: Job) -> Attempt:
    async with engine.begin() as connection:
        found = await AttemptStore(connection).newest(job)
    assert found is not None
    return found


async def told(engine: AsyncEngine) -> list[events.Event]:
    async with engine.begin() as connection:
        return (await events.read(connection, events.START)).events


async def begin(engine: AsyncEngine, job: Job) -> Attempt:
    """A runner takes the queued attempt."""
    async with engine.begin() as connection:
        [work] = await actions.lease_attempts(connection, "h1", slots=1, forgotten_but=None, ttl=TTL)
    assert work.job.id == job.id
    return work.granted.attempt


async def blob_of(store: BlobStore, project: str, content: bytes) -> Blob:
    """Bytes that are stored."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    return await store.publish(project, await store.stage(chunks(), 1 << 20))


async def hand_over(engine: AsyncEngine, store: BlobStore, attempt: Attempt, content: bytes = MODEL) -> None:
    """The attempt succeeds."""
    blob = await blob_of(store, attempt.project, content)
    result = result_of([("skops", "model.skops", blob.digest, blob.size)])
    async with engine.begin() as connection:
        await actions.keep_output(connection, attempt.project, attempt.id, fence=attempt.fence, blob=blob)
        await actions.finish_attempt(
            connection, attempt.project, attempt.id, fence=attempt.fence, exit_code=0, result=result, failure=None
        )


async def fail(engine: AsyncEngine, attempt: Attempt, why: Why) -> None:
    async with engine.begin() as connection:
        await actions.finish_attempt(
            connection, attempt.project, attempt.id, fence=attempt.fence, exit_code=1, result=None, failure=why
        )


async def trained(engine: AsyncEngine, worker: Reconciler, store: BlobStore, **given: Any) -> tuple[Job, Attempt]:
    """A job whose attempt has succeeded, and that nobody has looked at since."""
    job = await add_job(engine, features=("hour", "carrier"), **given)
    await turn(engine, worker)
    attempt = await begin(engine, job)
    await hand_over(engine, store, attempt)
    return job, attempt
