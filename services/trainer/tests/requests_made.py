"""Bodies of requests to the trainer, and the ways to bring a job to where a test needs it."""

from datetime import timedelta
from typing import Any

from makers import DIGEST
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases
from trainer.domain.jobs import NO_REASON, Job, Phase, Pinned, Why
from trainer.domain.leased import Attempt
from trainer.store import tables
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.jobs import JobStore

TTL = timedelta(seconds=20)
TREE = "sklearn.tree.DecisionTreeClassifier"
BODY: dict[str, Any] = {
    "dataset": "flights@3",
    "task": "classification",
    "target": "late",
    "features": ["hour", "carrier"],
    "estimator": {"class": TREE, "parameters": {"max_depth": 3}},
    "baseline": ["carrier"],
    "register": {"model": "delays"},
}


async def pin(engine: AsyncEngine, job: Job) -> Job:
    """As the reconciler does, when the dataset version is known."""
    async with engine.begin() as connection:
        store = JobStore(connection)
        [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL, where=[tables.jobs.c.id == job.id])
        await store.record(lease, job, due_in=timedelta(minutes=5), pinned=Pinned("flights@3", DIGEST), attempt=1)
        found = await store.find(job.project, job.id)
    assert found is not None
    return found


async def queue(engine: AsyncEngine, job: Job, number: int = 1) -> Attempt:
    """An attempt that a runner may lease."""
    job = await pin(engine, job)
    async with engine.begin() as connection:
        return await AttemptStore(connection).queue(job, number)


async def grant(engine: AsyncEngine, job: Job, host: str = "h1", number: int = 1) -> Granted:
    """An attempt that a runner has."""
    await queue(engine, job, number)
    async with engine.begin() as connection:
        [granted] = await AttemptStore(connection).lease(host, 1, ttl=TTL)
        await JobStore(connection).begin(job.project, job.id)
        return granted


async def settle(engine: AsyncEngine, job: Job, phase: Phase, why: Why = NO_REASON) -> None:
    """As the reconciler does at the end."""
    async with engine.begin() as connection:
        store = JobStore(connection)
        await store.wake(job.project, job.id)
        found = await store.find(job.project, job.id)
        assert found is not None
        [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL, where=[tables.jobs.c.id == job.id])
        assert await store.settle(lease, found, phase=phase, why=why, metrics={"roc_auc": 0.7})
