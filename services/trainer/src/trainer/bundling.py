"""What is done with bundles that needs more than one store: they are taken in, used by jobs, and let go."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import IO

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import audit, blobs, errors
from kit.blobs import BlobStore
from kit.callers import Caller
from trainer.domain import archives
from trainer.domain.bundles import MAX_BYTES, Bundle, BundleSpec
from trainer.domain.jobs import Job
from trainer.domain.specs import JobInvalid
from trainer.store.bundles import BundleStore

MOST = 1000
"""Bundles of a project. Those that nobody uses go after some weeks."""
ENTRIES = 2000
NOUN = "bundle"
CHUNK = 1 << 20


class BundleDiffers(errors.Invalid): ...


class TooManyBundles(errors.Conflict): ...


async def take_in(
    engine: AsyncEngine, store: BlobStore, caller: Caller, digest: str, chunks: AsyncIterator[bytes]
) -> Bundle:
    """Keep an archive, once it is known for one that can be unpacked.

    Raises:
        BundleInvalid: nobody should unpack it.
        BundleDiffers: these bytes have another digest.
        errors.TooLarge: there are too many.
    """
    with tempfile.TemporaryFile() as file:
        await _spool(chunks, file)
        contents = await asyncio.to_thread(archives.look, file)
        staged = await store.stage(_read(file), MAX_BYTES)
    if staged.digest != digest:
        await store.discard(staged)
        raise BundleDiffers(f"The body's digest is {staged.digest}, not {digest}.")
    blob = await store.publish(caller.project, staged)
    bundle = Bundle(digest, blob.size, len(contents.files))
    entries = [path for path in contents.files if path.endswith(".py")][:ENTRIES]
    async with engine.begin() as connection:
        bundles = BundleStore(connection)
        if await bundles.count(caller.project) >= MOST:
            raise TooManyBundles(f"The project has {MOST} bundles; those that nobody uses go after some weeks.")
        await blobs.record(connection, caller.project, blob)
        await blobs.link(connection, caller.project, digest, owner_of(digest))
        await bundles.put(caller.project, bundle, entries)
        await audit.record(connection, caller, "upload", NOUN, digest, {"size": bundle.size, "files": bundle.files})
    return bundle


async def use(connection: AsyncConnection, project: str, job: Job, spec: BundleSpec) -> None:
    """Have the job hold its bundle, for as long as there is the job.

    Raises:
        BundleNotFound: there is none.
        JobInvalid: it has no such file.
    """
    entries = await BundleStore(connection).use(project, spec.bundle)
    if spec.entrypoint not in entries and len(entries) < ENTRIES:
        there = ", ".join(entries[:20]) or "no Python file"
        detail = f"is no file of the bundle; there is {there}"
        raise JobInvalid("The bundle has no such file.", errors=[{"pointer": "#/entrypoint", "detail": detail[:1000]}])
    await blobs.link(connection, project, spec.bundle, holder_of(job))


async def retire(engine: AsyncEngine, age: timedelta, *, limit: int = 100) -> int:
    """Let go of the bundles that nobody has used for so long. Says how many."""
    retired = 0
    while True:
        async with engine.begin() as connection:
            found = await BundleStore(connection).retire(age, limit=limit)
            for project, digest in found:
                await blobs.unlink(connection, project, owner_of(digest))
        retired += len(found)
        if len(found) < limit:
            return retired


def owner_of(digest: str) -> str:
    """Who keeps the bytes of a bundle that can be used."""
    return f"bundle:{digest}"


def holder_of(job: Job) -> str:
    """Who keeps the bytes of the bundle that a job runs."""
    return f"job:{job.id}"


async def _spool(chunks: AsyncIterator[bytes], file: IO[bytes]) -> None:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise errors.TooLarge(f"A bundle has {MAX_BYTES >> 20} MiB at most.")
        file.write(chunk)


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK):
        yield chunk
