"""Bring every version to ready or failed: parse its source in a child, publish what that made, record it once."""

import asyncio
import contextlib
import errno
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest import actions
from ingest.domain.reports import Limits, Report, Task
from ingest.domain.schema import Column
from ingest.domain.versions import (
    ATTEMPTS,
    Contents,
    Ended,
    Fail,
    NoRoom,
    Parse,
    ParserVanished,
    Phase,
    Shard,
    Version,
    VersionNotFound,
    Wait,
    judge,
    next_step,
    version_digest,
)
from ingest.store.tables import versions
from ingest.store.versions import VersionStore
from kit import blobs, errors, events, leases, tracing
from kit.blobs import BlobStore
from kit.failpoints import failpoint
from kit.leases import LeaseLost

log = logging.getLogger(__name__)
TTL = timedelta(seconds=10)
"""How long a version waits whose replica was killed. The lease is renewed while a parser runs."""
SOON = timedelta(seconds=1)
LATER = timedelta(seconds=5)
"""How long what is not there just now is left alone."""
FOLDER = "parse-"
CHUNK = 1 << 20
LARGEST_FILE = 1 << 40
DAMAGED = "The stored bytes of the source are damaged or gone. Send them again, which repairs them."


class Parser(Protocol):
    """Reads untrusted bytes somewhere where they can do no harm."""

    async def run(self, task: Task) -> Ended: ...


class Reconciler:
    """What every replica does with a version that it has leased."""

    def __init__(
        self,
        engine: AsyncEngine,
        store: BlobStore,
        parser: Parser,
        work: Path,
        *,
        limits: Limits | None = None,
        ttl: timedelta = TTL,
    ) -> None:
        self._engine = engine
        self._store = store
        self._parser = parser
        self._work = work
        self._limits = limits or Limits()
        self._ttl = ttl

    async def reconcile(self, lease: leases.Lease) -> None:
        async with self._engine.begin() as connection:
            try:
                version = await VersionStore(connection).by_id(lease.project, lease.id)
            except VersionNotFound:
                return  # deleted since; what was made of it is collected
        step = next_step(version)
        tracing.note(step=type(step).__name__.lower(), version=version.reference)
        match step:
            case Wait():
                await self._postpone(lease, version, None)
            case Fail(reason=reason, message=message):
                await self._settle(lease, version, Report(outcome="refused", reason=reason, message=message), None)
            case Parse():
                await self._parse(lease, version)

    async def _parse(self, lease: leases.Lease, version: Version) -> None:
        async with self._engine.begin() as connection:
            if not await VersionStore(connection).begin(lease, version):
                return
        failpoint("ingest.parse.before")
        vanished: ParserVanished | None = None
        away = ""
        try:
            with tempfile.TemporaryDirectory(dir=self._work, prefix=FOLDER) as folder:
                async with leases.kept(self._engine, versions, lease, ttl=self._ttl):
                    # Settled before the folder goes: to remove gigabytes may take longer than a lease.
                    await self._settle(lease, version, *await self._make(version, Path(folder)))
        except ParserVanished as exc:
            vanished = exc
        except LeaseLost:
            log.warning("fenced", extra={"version": version.reference, "fence": lease.fence})
        except errors.Unavailable:
            away = "object store unavailable"
        except (NoRoom, OSError) as exc:
            if not _is_no_room(exc):
                raise
            away = "no room in the work folder"
        if vanished is not None:
            said = {"version": version.reference, "attempt": version.attempts + 1, "said": str(vanished)}
            log.warning("parser vanished", extra=said)
            await self._postpone(lease, version, SOON)
        elif away:
            log.warning(away, extra={"version": version.reference})
            await self._postpone(lease, version, LATER, uncounted=True)

    async def _postpone(
        self, lease: leases.Lease, version: Version, due_in: timedelta | None, *, uncounted: bool = False
    ) -> None:
        async with self._engine.begin() as connection:
            await VersionStore(connection).postpone(lease, version, due_in, uncounted=uncounted)

    async def _make(self, version: Version, folder: Path) -> tuple[Report, Contents | None]:
        """Parse, and publish what that made. No transaction is open here."""
        source, out = folder / "source", folder / "out"
        out.mkdir()
        try:
            await self._store.fetch(version.project, version.source.digest, source)
        except errors.Corrupt:
            # Once may be a folder that is not mounted yet.
            if version.attempts + 1 < ATTEMPTS:
                raise ParserVanished("the stored source is damaged or missing") from None
            return Report(outcome="refused", reason="source-damaged", message=DAMAGED), None
        task = Task(
            source=source,
            out=out,
            format=version.source.format,
            compression=version.source.compression,
            settings=version.settings,
            limits=self._limits,
        )
        report = judge(await self._parser.run(task))
        failpoint("ingest.parse.after")
        return report, await self._publish(version, out, report)

    async def _publish(self, version: Version, out: Path, report: Report) -> Contents | None:
        if not report.columns:
            return None
        shards: list[Shard] = []
        for file in report.shards:
            digest, size = await self._publish_file(version, out, file.path)
            shards.append(Shard(digest, size, file.rows, file.split))
        return Contents(
            columns=[Column(column.name, column.type) for column in report.columns],
            rows_in=report.rows_in,
            rows=report.rows,
            rejected=report.rejected,
            coerced=report.coerced,
            splits=report.splits,
            shards=shards,
            rejects=(await self._publish_file(version, out, report.rejects))[0] if report.rejects else None,
            profile=(await self._publish_file(version, out, report.profile))[0] if report.profile else None,
        )

    async def _publish_file(self, version: Version, out: Path, name: str) -> tuple[str, int]:
        path = _inside(out, name)
        failpoint("ingest.shard.before_publish")
        blob = await self._store.publish(version.project, await self._store.stage(_chunks(path), LARGEST_FILE))
        # Recorded at once and linked later: until then the grace of uploads keeps it.
        async with self._engine.begin() as connection:
            await blobs.record(connection, version.project, blob)
        failpoint("ingest.shard.after_publish")
        return blob.digest, blob.size

    async def _settle(self, lease: leases.Lease, version: Version, report: Report, contents: Contents | None) -> None:
        with contextlib.suppress(LeaseLost):
            async with self._engine.begin() as connection:
                phase = await _record(connection, lease, version, report, contents)
                failpoint("ingest.settle.before_commit")
            log.info("settled", extra={"version": version.reference, "phase": phase, "reason": report.reason})
        failpoint("ingest.settle.after_commit")


def _is_no_room(exc: NoRoom | OSError) -> bool:
    return isinstance(exc, NoRoom) or exc.errno in (errno.ENOSPC, errno.EDQUOT)


async def sweep(work: Path, age: timedelta) -> int:
    """Remove what processes that were killed left in the work folder longer ago than that. Says how many."""
    return await asyncio.to_thread(_sweep, work, time.time() - age.total_seconds())


def _sweep(work: Path, before: float) -> int:
    removed = 0
    for folder in work.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another replica sweeps too
            if folder.is_dir() and folder.stat().st_mtime < before:
                shutil.rmtree(folder)
                removed += 1
    return removed


async def _record(
    connection: AsyncConnection, lease: leases.Lease, version: Version, report: Report, contents: Contents | None
) -> Phase:
    """The whole effect of a parse, in the caller's transaction: links, version and event, or nothing."""
    ready = report.outcome == "ready" and contents is not None
    phase = Phase.READY if ready else Phase.FAILED
    digest = version_digest(version.settings, contents) if ready and contents is not None else None
    for blob in sorted(_digests(contents)):
        await blobs.link(connection, version.project, blob, actions.owner_of(version))
    recorded = await VersionStore(connection).settle(
        lease, version, phase=phase, reason=report.reason, message=report.message, digest=digest, contents=contents
    )
    if not recorded:
        # Rolls the links back; the lease was not ours to give back.
        raise LeaseLost
    data: dict[str, Any] = {"dataset": version.dataset, "version": version.number, "digest": digest}
    if phase is Phase.FAILED:
        data |= {"reason": report.reason, "message": report.message}
    await events.emit(connection, version.project, f"dataset.version.{phase}", version.reference, data)
    return phase


def _digests(contents: Contents | None) -> set[str]:
    if contents is None:
        return set()
    return {shard.digest for shard in contents.shards} | {each for each in (contents.rejects, contents.profile) if each}


def _inside(out: Path, name: str) -> Path:
    """What the child says it made. It read strangers' bytes, so its word is theirs."""
    path = (out / name).resolve()
    if not path.is_relative_to(out.resolve()) or not path.is_file():
        raise ParserVanished("it names a file that it did not make")
    return path


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
