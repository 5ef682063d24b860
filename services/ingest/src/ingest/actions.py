"""What a request does that needs more than one store: uploads, versions, and their end."""

import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest.domain.datasets import Dataset, DatasetExists, DatasetHeld, DatasetNotFound
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import (
    AssemblyClosed,
    DigestMismatch,
    Phase,
    Reference,
    Source,
    TooManyUploads,
    UploadEmpty,
    UploadInUse,
    UploadNotFound,
    UploadUnknown,
    Version,
    VersionHeld,
    VersionNotFound,
    VersionNotReady,
    in_use,
    split_reference,
)
from ingest.store.assemblies import AssemblyStore
from ingest.store.datasets import DatasetStore
from ingest.store.versions import VersionStore
from kit import audit, blobs, errors, events, holds, leases
from kit.blobs import Blob, BlobStore
from kit.callers import Caller
from kit.failpoints import failpoint

NOUN = "dataset-version"
SERVICE = "ingest"
KEPT = timedelta(hours=24)
"""How long an upload is kept that no version was made of."""
MANY = 100_000


@dataclass(frozen=True)
class Quota:
    """What a project may send."""

    bytes: int
    """Of one upload."""
    uploads: int
    """Open at one time: under way in this process, or kept for a version that nobody has made yet."""


class Uploads:
    """Takes in streams. Its counts are of this process; the database knows the uploads that are done."""

    def __init__(self, engine: AsyncEngine, store: BlobStore, quota: Quota) -> None:
        self._engine = engine
        self._store = store
        self.quota = quota
        self._under_way: Counter[str] = Counter()

    async def take(self, project: str, chunks: AsyncIterable[bytes], digest: str | None = None) -> Blob:
        """Store a stream under its digest. No row names it yet.

        Raises:
            DigestMismatch: the stream has another digest than it was to have.
            TooManyUploads: the project has too many open ones.
            UploadEmpty: nothing came.
            errors.TooLarge: more came than is taken.
        """
        with self._one_more(project):
            async with self._engine.begin() as connection:
                waiting = await VersionStore(connection).open_uploads(project, since=KEPT)
            if waiting >= self.quota.uploads:
                raise TooManyUploads(f"{waiting} uploads wait for a version; {self.quota.uploads} may.")
            staged = await self._store.stage(chunks, self.quota.bytes)
            if staged.size == 0:
                await self._store.discard(staged)
                raise UploadEmpty("The body is empty.")
            if digest not in (None, staged.digest):
                await self._store.discard(staged)
                raise DigestMismatch(f"The body's digest is {staged.digest}, not {digest}.")
            failpoint("ingest.upload.before_publish")
            blob = await self._store.publish(project, staged)
            failpoint("ingest.upload.after_publish")
            return blob

    @contextlib.asynccontextmanager
    async def counted(self, caller: Caller, blob: Blob | None) -> AsyncIterator[None]:
        """Bytes are stored before the rest of their request is refused: they are an upload then, like any other.

        Otherwise a day's refusals would lie outside of every quota.
        """
        try:
            yield
        except errors.Error:
            if blob is not None:
                async with self._engine.begin() as connection:
                    await record_upload(connection, caller, blob)
            raise

    @contextlib.contextmanager
    def _one_more(self, project: str) -> Iterator[None]:
        if self._under_way[project] >= self.quota.uploads:
            raise TooManyUploads(f"{self.quota.uploads} uploads of this project are under way.")
        self._under_way[project] += 1
        try:
            yield
        finally:
            self._under_way[project] -= 1


async def record_upload(connection: AsyncConnection, caller: Caller, blob: Blob) -> None:
    """Keep an upload for a version to come."""
    await blobs.record(connection, caller.project, blob)
    await VersionStore(connection).note_upload(caller.project, blob.digest)
    await audit.record(connection, caller, "create", "upload", blob.digest, {"size": blob.size})


async def delete_upload(connection: AsyncConnection, caller: Caller, digest: str) -> None:
    """Forget an upload that nobody made a version of, and its bytes with it.

    Raises:
        UploadInUse: a version is made of these bytes.
        UploadUnknown: there is no such upload (any more).
    """
    store = VersionStore(connection)
    waited = await store.close_upload(caller.project, digest)
    if users := await store.users_of(caller.project, digest):
        raise UploadInUse(f"The upload {digest} is {in_use(users)}.", used_by=users)
    if not waited:
        raise UploadUnknown(f"There is no upload {digest}.")
    await store.condemn(caller.project, digest)
    await audit.record(connection, caller, "delete", "upload", digest, {})


@dataclass(frozen=True)
class Made:
    """A version, and whether it was there before."""

    version: Version
    reused: bool


async def make_version(connection: AsyncConnection, caller: Caller, dataset: str, source: Source) -> Made:
    """A version of the dataset from an upload: the one that is there, or a new one.

    Raises:
        DatasetNotFound: there is no such dataset.
        UploadNotFound: there is no such upload (any more).
    """
    # Locked, so that two equal requests at one time make one version.
    found = await DatasetStore(connection).get(caller.project, dataset, lock=True)
    store = VersionStore(connection)
    await store.close_upload(caller.project, source.digest)
    if (same := await store.same(found, source)) is not None:
        return Made(same, reused=True)
    blob = await blobs.find(connection, caller.project, source.digest)
    if blob is None:
        raise UploadNotFound(
            f"There is no upload {source.digest[:100]}.",
            errors=[{"pointer": "#/upload", "detail": "Uploads without a version are kept for 24 hours."}],
        )
    version = await store.add(found, replace(source, size=blob.size))
    await blobs.link(connection, caller.project, source.digest, owner_of(version))
    await audit.record(connection, caller, "create", NOUN, version.reference, {"upload": source.digest})
    await leases.hint(connection, SERVICE)
    return Made(version, reused=False)


async def find_held(connection: AsyncConnection, project: str, noun: str, ref: str) -> str:
    """The version that somebody wants to hold, locked: `name`, `name@3` or `name@sha256:…` → `name@3`.

    Raises:
        VersionNotFound: there is no such thing.
        VersionNotReady: nobody can use it.
    """
    if noun != NOUN:
        raise VersionNotFound(f"There is no {noun[:100]!r} here.")
    version = await VersionStore(connection).get(project, *split_reference(ref), lock=True)
    if version.phase is not Phase.READY:
        raise VersionNotReady(f"Version {version.reference} is {version.phase.value}.")
    return version.reference


async def change_settings(
    connection: AsyncConnection, caller: Caller, dataset: Dataset, settings: DatasetSettings
) -> Dataset:
    """Other settings for the next version. The same ones change nothing."""
    if settings == dataset.settings:
        return dataset
    changed = await DatasetStore(connection).change(dataset, settings)
    await audit.record(connection, caller, "update", "dataset", dataset.name, {"revision": changed.revision})
    return changed


async def delete_version(connection: AsyncConnection, caller: Caller, dataset: str, reference: Reference) -> None:
    """
    Raises:
        VersionHeld: somebody needs it.
    """
    version = await VersionStore(connection).get(caller.project, dataset, reference, lock=True)
    if users := await holds.holders(connection, caller.project, NOUN, version.reference):
        raise VersionHeld(f"Version {version.reference} is {in_use(users)}.", used_by=users)
    await _drop(connection, version)
    await audit.record(connection, caller, "delete", NOUN, version.reference, {"digest": version.digest})


async def delete_dataset(connection: AsyncConnection, caller: Caller, dataset: Dataset) -> None:
    """Delete a dataset (locked by this transaction) with all its versions, or nothing of it.

    Raises:
        DatasetHeld: somebody needs one of the versions.
    """
    store = VersionStore(connection)
    versions = await store.page(caller.project, dataset.name, before=None, limit=MANY, lock=True)
    for version in versions:
        if users := await holds.holders(connection, caller.project, NOUN, version.reference):
            raise DatasetHeld(f"Version {version.reference} is {in_use(users)}.", used_by=users)
        await _drop(connection, version)
    await DatasetStore(connection).delete(dataset)
    await audit.record(connection, caller, "delete", "dataset", dataset.name, {"versions": len(versions)})


async def retire_failed(engine: AsyncEngine, age: timedelta, *, limit: int = 100) -> int:
    """Delete failed versions that are older than that. Says how many."""
    retired, full = 0, True
    while full:
        async with engine.begin() as connection:
            old = await VersionStore(connection).failed_before(age, limit=limit)
            for version in old:
                await _drop(connection, version)
        retired, full = retired + len(old), len(old) == limit
    return retired


async def forget_uploads(engine: AsyncEngine) -> int:
    """Drop the rows of uploads that nobody made a version of in time. Says how many."""
    async with engine.begin() as connection:
        return await VersionStore(connection).forget_uploads(since=KEPT)


async def _drop(connection: AsyncConnection, version: Version) -> None:
    await VersionStore(connection).delete(version)
    await blobs.unlink(connection, version.project, owner_of(version))
    data: dict[str, Any] = {"dataset": version.dataset, "version": version.number, "digest": version.digest}
    await events.emit(connection, version.project, "dataset.version.deleted", version.reference, data)


def owner_of(version: Version) -> str:
    """The name under which a version links its blobs."""
    return f"{NOUN}:{version.id}"


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A version as another service wants it: of parts that it has brought, one behind the other."""

    dataset: str
    parts: Sequence[str]
    settings: DatasetSettings
    source: Source
    """Its format and compression; the bytes are those of the parts."""
    lineage: dict[str, Any]


class Assemblies:
    """Parts that come one by one and become one version: one, however often it is asked for."""

    def __init__(self, engine: AsyncEngine, store: BlobStore, *, largest: int) -> None:
        """`largest`: bytes of all parts of one."""
        self._engine = engine
        self._store = store
        self._largest = largest

    async def take(self, project: str, assembly: uuid.UUID, chunks: AsyncIterable[bytes]) -> Blob:
        """Keep a part for as long as the assembly is open.

        Raises:
            AssemblyClosed: it is not any more.
            errors.TooLarge: more came than is taken.
        """
        blob = await self._store.publish(project, await self._store.stage(chunks, self._largest))
        failpoint("ingest.part.before_commit")
        async with self._engine.begin() as connection:
            await AssemblyStore(connection).open(project, assembly)
            await blobs.record(connection, project, blob)
            await blobs.link(connection, project, blob.digest, _owner_of(assembly))
        return blob

    async def make(self, caller: Caller, assembly: uuid.UUID, wanted: Assembled) -> Version:
        """The version of the assembly; the first call makes it, and the dataset if there is none of that name.

        Raises:
            AssemblyClosed: it was given up.
            UploadNotFound: a part was never brought.
            VersionNotFound: the version was deleted since.
            errors.TooLarge: the parts are more than a version may have.
        """
        async with self._engine.begin() as connection:
            if (there := await _made_of(connection, caller.project, assembly)) is not None:
                return there
            sizes = [await _part(connection, caller.project, digest) for digest in wanted.parts]
        if sum(sizes) > self._largest:
            raise errors.TooLarge(f"At most {self._largest} bytes make a version here.")
        staged = await self._store.stage(self._chunks(caller.project, wanted.parts), self._largest)
        blob = await self._store.publish(caller.project, staged)
        failpoint("ingest.assembly.before_commit")
        async with self._engine.begin() as connection:
            if (there := await _made_of(connection, caller.project, assembly)) is not None:
                return there
            await AssemblyStore(connection).open(caller.project, assembly)
            version = await _add(connection, caller, wanted, blob)
            await AssemblyStore(connection).close(caller.project, assembly, version.id)
            await blobs.unlink(connection, caller.project, _owner_of(assembly))
        failpoint("ingest.assembly.after_commit")
        return version

    async def _chunks(self, project: str, parts: Sequence[str]) -> AsyncIterator[bytes]:
        for digest in parts:
            async for chunk in self._store.stream(project, digest):
                yield chunk

    async def give_up(self, project: str, assembly: uuid.UUID) -> None:
        """No version is to be made of it any more. One that was made stays."""
        async with self._engine.begin() as connection:
            await AssemblyStore(connection).close(project, assembly, None)
            await blobs.unlink(connection, project, _owner_of(assembly))

    async def sweep(self, left: timedelta, ended: timedelta) -> int:
        """Give up those that nobody cares for any more, and forget those that ended. Says how many of the first."""
        async with self._engine.begin() as connection:
            store = AssemblyStore(connection)
            abandoned = await store.left(left)
            for project, assembly in abandoned:
                await store.close(project, assembly, None)
                await blobs.unlink(connection, project, _owner_of(assembly))
            await store.forget(ended)
        return len(abandoned)


async def _made_of(connection: AsyncConnection, project: str, assembly: uuid.UUID) -> Version | None:
    ended = await AssemblyStore(connection).closed(project, assembly)
    if ended is None:
        return None
    if ended.version is None:
        raise AssemblyClosed(f"The parts of {assembly} are given up.")
    return await VersionStore(connection).by_id(project, ended.version)


async def _part(connection: AsyncConnection, project: str, digest: str) -> int:
    blob = await blobs.find(connection, project, digest)
    if blob is None:
        raise UploadNotFound(f"There is no part {digest[:100]}.")
    return blob.size


async def _add(connection: AsyncConnection, caller: Caller, wanted: Assembled, blob: Blob) -> Version:
    datasets = DatasetStore(connection)
    try:
        dataset = await datasets.get(caller.project, wanted.dataset, lock=True)
    except DatasetNotFound:
        with contextlib.suppress(DatasetExists):  # made by another request meanwhile
            await datasets.add(caller.project, wanted.dataset, wanted.settings)
            await audit.record(connection, caller, "create", "dataset", wanted.dataset, {})
        dataset = await datasets.get(caller.project, wanted.dataset, lock=True)
    await blobs.record(connection, caller.project, blob)
    source = replace(wanted.source, digest=blob.digest, size=blob.size)
    as_wanted = replace(dataset, settings=wanted.settings)
    version = await VersionStore(connection).add(as_wanted, source, lineage=wanted.lineage)
    await blobs.link(connection, caller.project, blob.digest, owner_of(version))
    detail = {"upload": blob.digest, "lineage": wanted.lineage}
    await audit.record(connection, caller, "create", NOUN, version.reference, detail)
    await leases.hint(connection, SERVICE)
    return version


def _owner_of(assembly: uuid.UUID) -> str:
    return f"assembly:{assembly}"
