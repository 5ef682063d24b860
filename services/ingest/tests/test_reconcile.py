"""Versions on their way to ready or failed: restarts, stale leases, changes in the middle, and what is left over."""

import asyncio
import time
from datetime import timedelta

from replicas_at_work import ADA, SHORT, Gate, InlineParser, Lost, ReplicaOf, ask, links, make_due, objects, seen, told
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import actions
from ingest.domain.reports import Task
from ingest.domain.versions import Ended, Phase, Reference
from ingest.reconcile import Reconciler
from ingest.store.tables import versions
from kit import blobs, reconcile
from kit.blobs import BlobStore
from kit.testing import eventually


async def test_a_version_becomes_ready_once(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)
    replica = replica_of()
    assert await replica.run() == 1
    ready = await seen(engine, version)
    assert (ready.phase, ready.attempts) == (Phase.READY, 1)
    assert ready.contents is not None
    assert await told(engine) == [("dataset.version.ready", "flights@1")]
    made = {shard.digest for shard in ready.contents.shards} | {ready.contents.rejects, ready.contents.profile}
    assert await links(engine) == made | {version.source.digest} == await objects(store)
    assert await replica.run() == 0
    assert list(replica.work.iterdir()) == []


async def test_two_loops_share_the_work_and_do_it_once(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    count = 12
    for number in range(count):
        await ask(engine, store, f"id\n{number}\n".encode())
    stop = asyncio.Event()
    done: dict[int, list[str]] = {0: [], 1: []}

    class Counted(InlineParser):
        def __init__(self, place: int) -> None:
            self.place = place

        async def run(self, task: Task) -> Ended:
            done[self.place].append(task.source.read_text())
            return await super().run(task)

    async with asyncio.TaskGroup() as group:
        for place in done:
            worker = replica_of(Counted(place)).reconciler
            group.create_task(reconcile.controller(engine, versions, worker.reconcile, workers=1, poll=0.02, stop=stop))

        async def settled() -> bool:
            return len(await told(engine)) == count

        await eventually(settled, timedelta(minutes=1))
        stop.set()
    assert sorted(done[0] + done[1]) == sorted(f"id\n{number}\n" for number in range(count))
    assert min(len(done[0]), len(done[1])) >= 0.3 * count
    assert {kind for kind, _ in await told(engine)} == {"dataset.version.ready"}


async def test_two_claims_at_once_share_what_is_due(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    for number in range(8):
        await ask(engine, store, f"id\n{number}\n".encode())
    one, other = replica_of(), replica_of()
    claims = await asyncio.gather(one.claim(4), other.claim(4))
    assert [len(claim) for claim in claims] == [4, 4]
    assert not {lease.id for lease in claims[0]} & {lease.id for lease in claims[1]}
    assert await one.claim() == []


async def test_a_stale_lease_records_nothing(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)
    gate = Gate()
    slow, quick = replica_of(gate), replica_of()
    [stale] = await slow.claim()
    stalled = asyncio.create_task(slow.reconciler.reconcile(stale))
    await gate.entered.wait()
    await make_due(engine)
    assert await quick.run() == 1
    ready = await seen(engine, version)
    gate.open.set()
    await stalled
    assert await seen(engine, version) == ready
    assert ready.phase is Phase.READY
    assert len(await told(engine)) == 1


async def test_a_stale_lease_does_not_fail_what_another_made_ready(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)
    slow = replica_of(Lost())
    [stale] = await slow.claim()
    await make_due(engine)
    assert await replica_of().run() == 1
    # It wakes up before it has begun anything, and does not know.
    await slow.reconciler.reconcile(stale)
    assert (await seen(engine, version)).phase is Phase.READY
    assert len(await told(engine)) == 1


async def test_a_lease_is_kept_while_its_parser_runs(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)
    gate = Gate()
    replica = replica_of()
    replica.reconciler = Reconciler(engine, store, gate, replica.work, ttl=SHORT)
    [lease] = await replica.claim(ttl=SHORT)
    under_way = asyncio.create_task(replica.reconciler.reconcile(lease))
    await gate.entered.wait()
    begun = time.monotonic()
    await eventually(lambda: time.monotonic() - begun > 3 * SHORT.total_seconds())
    assert await replica_of().claim() == []
    gate.open.set()
    await under_way
    assert (await seen(engine, version)).phase is Phase.READY


async def test_a_parser_whose_lease_is_lost_is_ended(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    await ask(engine, store)
    gate = Gate()
    slow = replica_of()
    slow.reconciler = Reconciler(engine, store, gate, slow.work, ttl=SHORT)
    [lease] = await slow.claim()
    under_way = asyncio.create_task(slow.reconciler.reconcile(lease))
    await gate.entered.wait()
    await make_due(engine)
    assert len(await replica_of().claim()) == 1
    await asyncio.wait_for(under_way, 5)
    assert not gate.open.is_set()
    assert list(slow.work.iterdir()) == []
    assert await told(engine) == []


async def test_a_version_that_is_deleted_in_the_middle_leaves_nothing(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    await ask(engine, store)
    gate = Gate()
    replica = replica_of(gate)
    [lease] = await replica.claim()
    under_way = asyncio.create_task(replica.reconciler.reconcile(lease))
    await gate.entered.wait()
    async with engine.begin() as connection:
        await actions.delete_version(connection, ADA, "flights", Reference(number=1))
    gate.open.set()
    await under_way
    assert await told(engine) == [("dataset.version.deleted", "flights@1")]
    assert await links(engine) == set()
    # Its lease is nobody's any more.
    await replica.reconciler.reconcile(lease)
    assert len(await told(engine)) == 1


async def test_what_a_stalled_replica_published_late_is_collected(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    await ask(engine, store)
    gate = Gate()
    replica = replica_of(gate)
    [lease] = await replica.claim()
    under_way = asyncio.create_task(replica.reconciler.reconcile(lease))
    await gate.entered.wait()
    async with engine.begin() as connection:
        await actions.delete_version(connection, ADA, "flights", Reference(number=1))
    gate.open.set()
    await under_way
    assert len(await objects(store)) > 1
    nothing = timedelta(0)

    async def gone() -> bool:
        await blobs.collect(engine, store, grace=nothing, settle=nothing, stale=nothing)
        return not await objects(store)

    await eventually(gone)


async def test_what_a_version_needs_is_not_collected(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    await ask(engine, store)
    await replica_of().run()
    before = await objects(store)
    nothing = timedelta(0)
    for _ in range(3):
        await blobs.collect(engine, store, grace=nothing, settle=nothing, stale=nothing)
    assert await objects(store) == before
