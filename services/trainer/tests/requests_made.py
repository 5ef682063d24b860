"""Bodies of requests to the trainer, and the ways to bring a job to where a test needs it."""

from datetime import timedelta

from makers import DIGEST

from kit import leases
from trainer.domain.jobs import Pinned
from trainer.store import tables
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore

TTL = timedelta(seconds=20)
TREE = "sklearn.tree.DecisionTreeClassifier"
BODY = {
    "dataset": "flights@3",
    "task": "classification",
    "target": "late",
    "features": ["hour", "carrier"],
    "estimator": {"class": TREE, "parameters": {"max_depth": 3}},
    "baseline": ["carrier"],
    "register": {"model": "delays"},
}


async def pin(engine, job):
    """As the reconciler does, when the dataset version is known."""
    async with engine.begin() as connection:
        store = JobStore(connection)
        [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL, where=[tables.jobs.c.id == job.id])
        await store.record(lease, job, due_in=timedelta(minutes=5), pinned=Pinned("flights@3", DIGEST), attempt=1)
        return await store.find(job.project, job.id)


async def queue(engine, job, number=1):
    """An attempt that a runner may lease."""
    job = await pin(engine, job)
    async with engine.begin() as connection:
        return await AttemptStore(connection).queue(job, number)


async def grant(engine, job, host="h1"):
    """An attempt that a runner has."""
    await queue(engine, job)
    async with engine.begin() as connection:
        [granted] = await AttemptStore(connection).lease(host, 1, ttl=TTL)
        await JobStore(connection).begin(job.project, job.id)
        return granted


async def settle(engine, job, phase, why):
    """As the reconciler does at the end."""
    async with engine.begin() as connection:
        store = JobStore(connection)
        await store.wake(job.project, job.id)
        job = await store.find(job.project, job.id)
        [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL, where=[tables.jobs.c.id == job.id])
        assert await store.settle(lease, job, phase=phase, why=why, metrics={"roc_auc": 0.7})
