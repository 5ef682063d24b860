"""Whether every object that the database names is there: `python -m <service> verify [--deep]`.

For after a restore, and for whoever doubts a disk. It may run beside the service, on a live database.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors
from kit.blob_store import BlobStore
from kit.db import make_engine
from kit.tables import blob_links, blobs

BATCH = 500
AT_ONCE, DEEP_AT_ONCE = 16, 4
"""Objects that are asked for, or read, at one time."""


@dataclass(frozen=True)
class Finding:
    """An object that is not what the database says, and who needs it."""

    project: str
    digest: str
    problem: str
    owners: Sequence[str]

    def __str__(self) -> str:
        needed = ", ".join(self.owners) or "nothing yet"
        return f"{self.problem}: {self.digest} of project {self.project}, needed by {needed}"


@dataclass(frozen=True)
class Report:
    checked: int
    findings: Sequence[Finding]


async def verify(engine: AsyncEngine, store: BlobStore, *, deep: bool = False) -> Report:
    """Look for every live blob; with `deep`, read it and compare its digest.

    Raises:
        errors.Unavailable: the object store is not answering.
    """
    turns = asyncio.Semaphore(DEEP_AT_ONCE if deep else AT_ONCE)

    async def one(row: Any) -> Finding | None:
        async with turns:
            problem = await _problem(store, row.project, row.digest, row.size, deep=deep)
        return await _confirmed(engine, row.project, row.digest, problem) if problem else None

    checked, findings = 0, []
    async for batch in _batches(engine):
        found = await asyncio.gather(*(one(row) for row in batch))
        checked += len(batch)
        findings += [it for it in found if it is not None]
    return Report(checked, findings)


async def _batches(engine: AsyncEngine) -> AsyncIterator[Sequence[Any]]:
    last = ("", "")
    while True:
        behind = sa.tuple_(blobs.c.project, blobs.c.digest) > sa.tuple_(*map(sa.literal, last))
        query = sa.select(blobs.c.project, blobs.c.digest, blobs.c.size).where(behind, blobs.c.state == "live")
        async with engine.begin() as connection:
            rows = (await connection.execute(query.order_by(blobs.c.project, blobs.c.digest).limit(BATCH))).all()
        if not rows:
            return
        yield rows
        last = (rows[-1].project, rows[-1].digest)


async def _problem(store: BlobStore, project: str, digest: str, size: int, *, deep: bool) -> str | None:
    found = await store.size_of(project, digest)
    if found is None:
        return "missing"
    if found != size:
        return f"{found} bytes instead of {size}"
    if deep:
        try:
            await store.check(project, digest)
        except errors.Corrupt:
            return "damaged"
    return None


async def _confirmed(engine: AsyncEngine, project: str, digest: str, problem: str) -> Finding | None:
    """None where the blob has been given up since its row was read: then its object may be gone."""
    async with engine.begin() as connection:
        if await _is_live(connection, project, digest):
            of_it = sa.and_(blob_links.c.project == project, blob_links.c.digest == digest)
            owners = sa.select(blob_links.c.owner).where(of_it).order_by(blob_links.c.owner)
            return Finding(project, digest, problem, list((await connection.execute(owners)).scalars()))
    return None


async def _is_live(connection: AsyncConnection, project: str, digest: str) -> bool:
    query = sa.select(blobs.c.state).where(blobs.c.project == project, blobs.c.digest == digest)
    return (await connection.execute(query)).scalar_one_or_none() == "live"


def run(service: str, url: str, objects_url: str | None, arguments: Sequence[str]) -> int:
    """The command: 0 when all is there, 1 when something is not, or nobody could say."""
    parser = argparse.ArgumentParser(prog=f"python -m {service} verify")
    parser.add_argument("--deep", action="store_true", help="read every object, and compare its digest")
    deep = parser.parse_args(arguments).deep
    if objects_url is None:
        sys.stdout.write(f"{service} keeps no objects.\n")
        return 0
    return asyncio.run(_run(service, url, objects_url, deep=deep))


async def _run(service: str, url: str, objects_url: str, *, deep: bool) -> int:
    engine = make_engine(url)
    try:
        report = await verify(engine, BlobStore(objects_url, service), deep=deep)
    except (errors.Unavailable, sa.exc.OperationalError, sa.exc.ProgrammingError) as exc:
        sys.stderr.write(f"{service} could not be verified: {exc}\n")
        return 1
    finally:
        await engine.dispose()
    sys.stdout.writelines(f"{finding}\n" for finding in report.findings)
    how = "read" if deep else "looked for"
    sys.stdout.write(f"{service}: {report.checked} objects {how}, {len(report.findings)} not as they should be.\n")
    return 1 if report.findings else 0
