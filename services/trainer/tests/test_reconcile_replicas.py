"""Any number of replicas bring every job to its end once, wherever one of them stands still."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from jobs_at_work import lease, look, pass_time, told, turn
from makers import add_job
from neighbours import Neighbours
from requests_made import TTL
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases, reconcile
from kit.blobs import BlobStore
from kit.clients import Principal
from kit.testing import eventually
from trainer.clients.ingest import IngestClient, VersionSeen
from trainer.clients.registry import RegistryClient
from trainer.domain.jobs import Phase, Pinned
from trainer.domain.specs import DatasetReference
from trainer.domain.steps import SWEEP
from trainer.reconcile import Reconciler
from trainer.store import tables
from trainer.store.jobs import JobStore


async def test_two_replicas_share_the_work_and_do_all_of_it_once(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    jobs = [await add_job(engine, target="nothing") for _ in range(20)]
    done: Counter[str] = Counter()
    stop = asyncio.Event()

    def replica(name: str) -> Callable[[leases.Lease], Awaitable[None]]:
        async def one(leased: leases.Lease) -> None:
            await worker.reconcile(leased)
            done[name] += 1

        return one

    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(reconcile.controller(engine, tables.jobs, replica(name), workers=1, poll=0.02, stop=stop))

        async def all_settled() -> bool:
            return len(await told(engine)) == len(jobs)

        await eventually(all_settled)
        stop.set()
    assert Counter(event.subject for event in await told(engine)) == Counter(str(job.id) for job in jobs)
    assert min(done["a"], done["b"]) >= 0.3 * sum(done.values())


async def test_two_claims_at_once_never_get_the_same_job(engine: AsyncEngine) -> None:
    for _ in range(6):
        await add_job(engine)

    async def claim() -> Sequence[leases.Lease]:
        async with engine.begin() as connection:
            return await leases.lease_due(connection, tables.jobs, 3, ttl=TTL)

    claimed = [each.id for found in await asyncio.gather(claim(), claim()) for each in found]
    assert len(claimed) == len(set(claimed)) == 6


async def test_a_replica_whose_lease_ran_out_records_nothing(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine, target="nothing")
    stale = await lease(engine)
    await pass_time(engine, TTL + timedelta(seconds=1))
    await lease(engine)
    await worker.reconcile(stale)
    assert (await look(engine, job)).phase is Phase.PENDING
    assert await told(engine) == []


class Meanwhile(IngestClient):
    """Something happens while ingest is asked."""

    def __init__(self, other: IngestClient, act: Callable[[], Awaitable[object]]) -> None:
        super().__init__(other._service)
        self._act = act

    async def version(self, principal: Principal, reference: DatasetReference) -> VersionSeen:
        found = await super().version(principal, reference)
        await self._act()
        return found

    async def hold(self, principal: Principal, pinned: Pinned, holder: str) -> None:
        await self._act()
        await super().hold(principal, pinned, holder)


async def test_a_cancel_in_the_middle_is_what_counts(
    engine: AsyncEngine,
    worker: Reconciler,
    store: BlobStore,
    ingest: IngestClient,
    registry: RegistryClient,
    world: Neighbours,
) -> None:
    job = await add_job(engine)

    async def cancel() -> None:
        async with engine.begin() as connection:
            await JobStore(connection).request_cancel("blue", job.id)

    await Reconciler(engine, store, Meanwhile(ingest, cancel), registry).reconcile(await lease(engine))
    found = await look(engine, job)
    assert (found.phase, found.pinned) == (Phase.PENDING, None)
    await turn(engine, worker)
    assert (await look(engine, job)).phase is Phase.CANCELLED
    assert [event.kind for event in await told(engine)] == ["job.cancelled"]


async def test_what_a_replica_that_stood_still_does_late_is_swept(
    engine: AsyncEngine,
    worker: Reconciler,
    store: BlobStore,
    ingest: IngestClient,
    registry: RegistryClient,
    world: Neighbours,
) -> None:
    job = await add_job(engine)
    await worker.reconcile(await lease(engine))  # pinned
    stale = await lease(engine)

    async def everything_happens() -> None:
        await pass_time(engine, TTL + timedelta(seconds=1))
        async with engine.begin() as connection:
            await JobStore(connection).request_cancel("blue", job.id)
        await turn(engine, worker)
        async with engine.begin() as connection:
            await JobStore(connection).request_delete("blue", job.id)
        await turn(engine, worker)
        assert world.holds == set()

    await Reconciler(engine, store, Meanwhile(ingest, everything_happens), registry).reconcile(stale)
    assert world.holds == {("flights@3", job.holder)}  # placed by the one that stood still
    await pass_time(engine, SWEEP + timedelta(seconds=1))
    await turn(engine, worker)
    assert world.holds == set()
    async with engine.begin() as connection:
        assert await JobStore(connection).find("blue", job.id) is None
