"""Versions whose parser, store, database or source fails, and folders that are left behind."""

import errno
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from replicas_at_work import InlineParser, Lost, ReplicaOf, ask, links, make_due, objects, seen, told
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.domain.reports import Report, ShardFile, Task
from ingest.domain.settings import ColumnSpec
from ingest.domain.splits import TRAIN
from ingest.domain.versions import ATTEMPTS, Ended, Phase
from ingest.reconcile import sweep
from kit import errors
from kit.blobs import BlobStore
from kit.testing_objects import Objects


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


@pytest.mark.parametrize("place", ["in the child", "in the service", "beyond a quota"])
async def test_a_full_disk_is_no_fault_of_the_version(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf, place: str
) -> None:
    version = await ask(engine, store)

    class Full(InlineParser):
        async def run(self, task: Task) -> Ended:
            if place == "in the child":
                # Where the profile goes there is no room for it.
                (task.out / "profile.json").symlink_to("/dev/full")
                return await super().run(task)
            raise OSError(errno.ENOSPC if place == "in the service" else errno.EDQUOT, "full")

    for _ in range(ATTEMPTS + 1):
        await replica_of(Full()).run()
        found = await seen(engine, version)
        assert (found.phase, found.attempts) == (Phase.PARSING, 0)
        await make_due(engine)
    await replica_of().run()
    assert (await seen(engine, version)).phase is Phase.READY


async def test_other_failures_of_the_system_are_told_to_the_loop(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    await ask(engine, store)

    class Broken(InlineParser):
        async def run(self, task: Task) -> Ended:
            raise OSError(errno.EIO, "the disk is broken")

    replica = replica_of(Broken())
    [lease] = await replica.claim()
    with pytest.raises(OSError, match="broken"):
        await replica.reconciler.reconcile(lease)


async def test_a_damaged_source_says_so_and_sending_it_again_repairs_it(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf, objects_url: str
) -> None:
    version = await ask(engine, store)
    Objects(objects_url).damage(store.key_of("blue", version.source.digest))
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


async def test_a_database_that_is_away_is_told_to_the_loop_as_what_it_is(
    engine: AsyncEngine, store: BlobStore, dataset: str, replica_of: ReplicaOf
) -> None:
    version = await ask(engine, store)

    class Away(InlineParser):
        async def run(self, task: Task) -> Ended:
            raise OperationalError("select 1", {}, Exception("the connection is lost"))

    replica = replica_of(Away())
    [lease] = await replica.claim()
    with pytest.raises(OperationalError):
        await replica.reconciler.reconcile(lease)
    await make_due(engine)
    await replica_of().run()
    assert (await seen(engine, version)).phase is Phase.READY


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
