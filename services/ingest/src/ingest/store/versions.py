"""Versions in the database. Every statement about versions, their numbers and uploads is in this file."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.domain.datasets import Dataset, refuse_other_names
from ingest.domain.reports import Compression, Format
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import (
    FINAL,
    Contents,
    Phase,
    Reference,
    Source,
    Version,
    VersionNotFound,
    settings_digest,
)
from ingest.store.tables import numbers, uploads, versions
from kit import leases
from kit.db import NOW
from kit.ids import uuid7
from kit.tables import blob_links, blobs

_CONTENTS = TypeAdapter(Contents)
COLUMNS = [
    column
    for column in versions.c
    if column.name not in {"settings_digest", "dataset_id", "due_at", "fence", "lease_until", "traceparent"}
]


class VersionStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def same(self, dataset: Dataset, source: Source) -> Version | None:
        """The version that these bytes and the dataset's present settings made, or are making."""
        return await self._one(
            versions.c.project == dataset.project,
            versions.c.dataset_id == dataset.id,
            versions.c.source_digest == source.digest,
            versions.c.settings_digest == settings_digest(dataset.settings, source),
            versions.c.phase != Phase.FAILED,
        )

    async def add(self, dataset: Dataset, source: Source, *, lineage: dict[str, Any] | None = None) -> Version:
        """A new version, with the next number. The dataset is locked by this transaction."""
        values = {
            "id": uuid7(),
            "project": dataset.project,
            "dataset_id": dataset.id,
            "dataset": dataset.name,
            "number": await self._next_number(dataset),
            "source_digest": source.digest,
            "source_size": source.size,
            "format": source.format,
            "compression": source.compression,
            "settings": dataset.settings.document(),
            "settings_digest": settings_digest(dataset.settings, source, lineage),
            "lineage": lineage,
        }
        statement = sa.insert(versions).values(values).returning(*COLUMNS)
        return _version((await self._connection.execute(statement)).one())

    async def get(self, project: str, dataset: str, reference: Reference, *, lock: bool = False) -> Version:
        """
        Raises:
            VersionNotFound: there is none.
        """
        refuse_other_names(dataset)
        of = [versions.c.project == project, versions.c.dataset == dataset]
        if reference.number is not None:
            of.append(versions.c.number == reference.number)
        else:
            of.append(versions.c.phase == Phase.READY)
            if reference.digest is not None:
                of.append(versions.c.digest == reference.digest)
        version = await self._one(*of, lock=lock)
        if version is None:
            what = reference.number or reference.digest or "that is ready"
            raise VersionNotFound(f"There is no version {what} of {dataset[:100]}.")
        return version

    async def by_id(self, project: str, id_: uuid.UUID) -> Version:
        """
        Raises:
            VersionNotFound: it was deleted.
        """
        version = await self._one(versions.c.project == project, versions.c.id == id_)
        if version is None:
            raise VersionNotFound("The version was deleted.")
        return version

    async def page(
        self, project: str, dataset: str, *, before: int | None, limit: int, lock: bool = False
    ) -> Sequence[Version]:
        """The newest first."""
        of = [versions.c.project == project, versions.c.dataset == dataset]
        if before is not None:
            of.append(versions.c.number < before)
        query = sa.select(*COLUMNS).where(*of).order_by(versions.c.number.desc()).limit(limit)
        rows = await self._connection.execute(query.with_for_update() if lock else query)
        return [_version(row) for row in rows]

    async def begin(self, lease: leases.Lease, seen: Version) -> bool:
        """Say that the owner of the lease parses the version it saw. False: it is another's, or not to be parsed."""
        statement = (
            sa.update(versions)
            .where(
                versions.c.project == lease.project,
                versions.c.id == lease.id,
                versions.c.fence == lease.fence,
                versions.c.generation == seen.generation,
                versions.c.phase.not_in(FINAL),
            )
            .values(phase=Phase.PARSING, attempts=versions.c.attempts + 1)
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def settle(
        self,
        lease: leases.Lease,
        seen: Version,
        *,
        phase: Phase,
        reason: str = "",
        message: str = "",
        digest: str | None = None,
        contents: Contents | None = None,
    ) -> bool:
        """Record how parsing ended, for good."""
        return await leases.record(
            self._connection,
            versions,
            lease,
            generation=seen.generation,
            final=FINAL,
            due_in=None,
            phase=phase,
            reason=reason,
            message=message,
            digest=digest,
            contents=None if contents is None else _CONTENTS.dump_python(contents, mode="json"),
            finished_at=NOW,
        )

    async def postpone(
        self, lease: leases.Lease, seen: Version, due_in: timedelta | None, *, uncounted: bool = False
    ) -> bool:
        """Look at the version again after that time, or never, and give the lease back.

        `uncounted`: as if it had not been begun, since the reason to stop was none of its own.
        """
        values = {"attempts": versions.c.attempts - 1} if uncounted else {}
        return await leases.record(
            self._connection, versions, lease, generation=seen.generation, final=FINAL, due_in=due_in, **values
        )

    async def delete(self, version: Version) -> None:
        await self._connection.execute(
            sa.delete(versions).where(versions.c.project == version.project, versions.c.id == version.id)
        )

    async def failed_before(self, age: timedelta, *, limit: int) -> Sequence[Version]:
        """Failed versions older than that, locked for this transaction."""
        query = (
            sa.select(*COLUMNS)
            .where(versions.c.phase == Phase.FAILED, versions.c.finished_at < NOW - age)
            .order_by(versions.c.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [_version(row) for row in await self._connection.execute(query)]

    async def note_upload(self, project: str, digest: str) -> None:
        """Count the upload among the project's open ones."""
        statement = pg.insert(uploads).values(project=project, digest=digest)
        renewed = statement.on_conflict_do_update(index_elements=["project", "digest"], set_={"created_at": NOW})
        await self._connection.execute(renewed)

    async def close_upload(self, project: str, digest: str) -> bool:
        """A version is made of the upload: it waits no more, whatever becomes of the version. Says whether it did."""
        closed = await self._connection.execute(
            sa.delete(uploads).where(uploads.c.project == project, uploads.c.digest == digest)
        )
        return closed.rowcount == 1

    async def users_of(self, project: str, digest: str) -> list[str]:
        """The versions that link these bytes. None is added until this transaction ends."""
        this = sa.and_(blobs.c.project == project, blobs.c.digest == digest)
        await self._connection.execute(sa.select(blobs.c.digest).where(this).with_for_update())
        # A second statement, so a second snapshot: it sees the links that were made before the row was locked.
        links = sa.and_(blob_links.c.project == project, blob_links.c.digest == digest)
        owner = sa.func.concat("dataset-version:", sa.cast(versions.c.id, sa.Text))
        query = sa.select(versions.c.dataset, versions.c.number).where(
            versions.c.project == project, owner.in_(sa.select(blob_links.c.owner).where(links))
        )
        found = await self._connection.execute(query.order_by(versions.c.dataset, versions.c.number))
        return [f"{row.dataset}@{row.number}" for row in found]

    async def condemn(self, project: str, digest: str) -> None:
        """Let the next collection have the bytes, which nothing links and whose row is locked."""
        live = sa.and_(blobs.c.project == project, blobs.c.digest == digest, blobs.c.state == "live")
        await self._connection.execute(sa.update(blobs).where(live).values(state="dying", dying_since=NOW))

    async def open_uploads(self, project: str, *, since: timedelta) -> int:
        """How many uploads are kept for a version that nobody has made of them yet."""
        linked = sa.exists().where(blob_links.c.project == uploads.c.project, blob_links.c.digest == uploads.c.digest)
        query = sa.select(sa.func.count()).where(
            uploads.c.project == project, uploads.c.created_at > NOW - since, ~linked
        )
        return int((await self._connection.execute(query)).scalar_one())

    async def forget_uploads(self, *, since: timedelta) -> int:
        """Drop what counts no more. Says how many."""
        dropped = await self._connection.execute(sa.delete(uploads).where(uploads.c.created_at <= NOW - since))
        return dropped.rowcount

    async def _next_number(self, dataset: Dataset) -> int:
        statement = pg.insert(numbers).values(project=dataset.project, dataset=dataset.name, last=1)
        raised = statement.on_conflict_do_update(
            index_elements=["project", "dataset"], set_={"last": numbers.c.last + 1}
        )
        return int((await self._connection.execute(raised.returning(numbers.c.last))).scalar_one())

    async def _one(self, *where: sa.ColumnElement[bool], lock: bool = False) -> Version | None:
        query = sa.select(*COLUMNS).where(*where).order_by(versions.c.number.desc()).limit(1)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else _version(row)


def _version(row: sa.Row[Any]) -> Version:
    values = dict(row._mapping)
    source = Source(
        digest=values.pop("source_digest"),
        size=values.pop("source_size"),
        format=Format(values.pop("format")),
        compression=Compression(given) if (given := values.pop("compression")) else None,
    )
    contents = values.pop("contents")
    return Version(
        **{
            **values,
            "source": source,
            "settings": DatasetSettings.model_validate(values["settings"]),
            "phase": Phase(values["phase"]),
            "contents": None if contents is None else _CONTENTS.validate_python(contents),
        }
    )
