"""Versions on their way to ready or failed: restarts, stale leases, changes in the middle, and what is left over."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from replicas_at_work import InlineParser, ReplicaOf
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import actions
from ingest.actions import Quota, Uploads
from ingest.domain.reports import Format, Report, ShardFile, Task
from ingest.domain.settings import ColumnSpec, DatasetSettings
from ingest.domain.splits import TRAIN
from ingest.domain.versions import ATTEMPTS, Ended, Phase, Reference, Source, Version
from ingest.reconcile import Reconciler, sweep
from ingest.store.datasets import DatasetStore
from ingest.store.tables import versions
from ingest.store.versions import VersionStore
from kit import blobs, errors, reconcile
from kit.blobs import BlobStore
from kit.callers import Caller, Role
from kit.db import NOW
from kit.tables import blob_links, events
from kit.testing import eventually

ADA = Caller("blue", Role.EDITOR, "ada", "gateway")
SHORT = timedelta(milliseconds=150)
DAY = timedelta(days=1)
GOOD = b"id,late\n1,true\n2,false\n3\n"


@pytest.fixture
async def dataset(engine: AsyncEngine) -> str:
    async with engine.begin() as connection:
        await DatasetStore(connection).add("blue", "flights", DatasetSettings(key=["id"]))
    return "flights"


async def ask(engine: AsyncEngine, store: BlobStore, data: bytes = GOOD) -> Version:
    """A new version of these bytes, as a request makes it."""
    blob = await Uploads(engine, store, Quota(1 << 20, 100)).take("blue", _pieces(data))
    async with engine.begin() as connection:
        await actions.record_upload(connection, ADA, blob)
        source = Source(blob.digest, blob.size, Format.CSV, None)
        return (await actions.make_version(connection, ADA, "flights", source)).version


async def _pieces(data: bytes) -> Any:
    yield data


async def seen(engine: AsyncEngine, version: Version) -> Version:
    async with engine.begin() as connection:
        return await VersionStore(connection).by_id(version.project, version.id)


async def told(engine: AsyncEngine) -> list[tuple[str, str]]:
    async with engine.begin() as connection:
        rows = await connection.execute(sa.select(events.c.kind, events.c.subject).order_by(events.c.id))
        return [(row.kind, row.subject) for row in rows]


async def links(engine: AsyncEngine) -> set[str]:
    async with engine.begin() as connection:
        return set((await connection.execute(sa.select(blob_links.c.digest))).scalars())


async def objects(store: BlobStore) -> set[str]:
    return {found.digest or found.key async for page in store.blobs() for found in page}


async def make_due(engine: AsyncEngine) -> None:
    """As if time had passed: what was put off is due, and leases have run out."""
    async with engine.begin() as connection:
        late = NOW - timedelta(seconds=1)
        await connection.execute(
            sa.update(versions).where(versions.c.due_at.is_not(None)).values(due_at=late, lease_until=late)
        )


class Gate(InlineParser):
    """A parser that waits where a test holds it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.runs = 0

    async def run(self, task: Task) -> Ended:
        self.runs += 1
        self.entered.set()
        await self.open.wait()
        return await super().run(task)


class Lost:
    """A parser that goes without a word."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, task: Task) -> Ended:
        self.runs += 1
        return Ended(-9, None, None)


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

        await eventually(settled)
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


async def test_a_parser_that_vanishes_is_tried_again_and_given_up_in_the_end(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)
    lost = Lost()
    replica = replica_of(lost)
    for attempt in range(1, ATTEMPTS + 1):
        assert await replica.run() == 1
        found = await seen(engine, version)
        assert (found.phase, found.attempts) == (Phase.PARSING, attempt)
        assert await replica.claim() == []  # not before some time has passed
        await make_due(engine)
    await replica.run()
    found = await seen(engine, version)
    assert (found.phase, found.reason, lost.runs) == (Phase.FAILED, "parser-lost", ATTEMPTS)
    assert await told(engine) == [("dataset.version.failed", "flights@1")]
    assert await links(engine) == {version.source.digest}


async def test_a_parser_that_vanishes_once_costs_only_time(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)
    await replica_of(Lost()).run()
    await make_due(engine)
    await replica_of().run()
    assert (await seen(engine, version)).phase is Phase.READY


async def test_a_store_that_is_away_is_no_fault_of_the_version(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)

    class Away(InlineParser):
        async def run(self, task: Task) -> Ended:
            raise errors.Unavailable("The object store is not answering.")

    for _ in range(ATTEMPTS + 1):
        await replica_of(Away()).run()
        assert (await seen(engine, version)).attempts == 0
        await make_due(engine)
    await replica_of().run()
    assert (await seen(engine, version)).phase is Phase.READY


async def test_a_damaged_source_says_so_and_sending_it_again_repairs_it(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf, objects_url: str
) -> None:
    version = await ask(engine, store)
    path = Path(objects_url.removeprefix("file://")) / store.key_of("blue", version.source.digest)
    path.write_bytes(b"something else")
    replica = replica_of()
    for _ in range(ATTEMPTS):
        assert (await seen(engine, version)).phase is not Phase.FAILED
        await replica.run()
        await make_due(engine)
    found = await seen(engine, version)
    assert (found.phase, found.reason) == (Phase.FAILED, "source-damaged")
    again = await ask(engine, store)
    assert again.number == 2
    await replica.run()
    assert (await seen(engine, again)).phase is Phase.READY


LIES: dict[str, str] = {
    "a file outside": "../../../../etc/passwd",
    "an absolute one": "/etc/passwd",
    "one that is not there": "train/nothing.parquet",
    "a folder": ".",
}


@pytest.mark.parametrize("path", LIES.values(), ids=LIES.keys())
async def test_a_child_that_names_other_files_is_not_believed(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf, path: str
) -> None:
    version = await ask(engine, store)

    class Liar:
        async def run(self, task: Task) -> Ended:
            shard = ShardFile(path=path, rows=1, split=TRAIN)
            columns = [ColumnSpec.model_validate({"name": "a", "type": "string"})]
            return Ended(0, None, Report(outcome="ready", columns=columns, rows=1, shards=[shard]))

    await replica_of(Liar()).run()
    found = await seen(engine, version)
    assert (found.phase, found.attempts) == (Phase.PARSING, 1)
    assert await objects(store) == {version.source.digest}


async def test_a_link_out_of_the_folder_is_not_followed(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf, tmp_path: Path
) -> None:
    version = await ask(engine, store)
    (tmp_path / "secret").write_text("secret")

    class Liar:
        async def run(self, task: Task) -> Ended:
            (task.out / "link").symlink_to(tmp_path / "secret")
            columns = [ColumnSpec.model_validate({"name": "a", "type": "string"})]
            return Ended(0, None, Report(outcome="ready", columns=columns, profile="link"))

    await replica_of(Liar()).run()
    assert (await seen(engine, version)).phase is Phase.PARSING
    assert await objects(store) == {version.source.digest}


async def test_leftovers_are_swept_when_they_are_old(settings: Any, replica_of: ReplicaOf) -> None:
    work = replica_of().work
    for name, age in (("parse-old", 7200), ("page-old", 7200), ("parse-new", 60)):
        (work / name).mkdir()
        (work / name / "source").write_text("rows")
        os.utime(work / name, (time.time() - age,) * 2)
    (work / "a-file").write_text("not ours")
    assert await sweep(work, timedelta(hours=1)) == 2
    assert sorted(path.name for path in work.iterdir()) == ["a-file", "parse-new"]
