"""Versions in the database. Every statement about versions and their numbers is in this file."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.attestations import Envelope
from kit.ids import uuid7
from registry.domain.manifests import Manifest
from registry.domain.models import Model
from registry.domain.versions import Reference, Version, VersionNotFound
from registry.store.tables import aliases, numbers, versions

COLUMNS = [column for column in versions.c if column.name != "model_id"]


class VersionStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, model: Model, digest: str, manifest: Manifest, attestations: Sequence[Envelope] = ()
    ) -> Version:
        """A new version, with the next number. The model is locked by this transaction."""
        values = {
            "id": uuid7(),
            "project": model.project,
            "model_id": model.id,
            "model": model.name,
            "number": await self._next_number(model),
            "digest": digest,
            "manifest": manifest.document(),
            "attestations": list(attestations),
        }
        statement = sa.insert(versions).values(values).returning(*COLUMNS)
        return _version((await self._connection.execute(statement)).one())

    async def find(self, model: Model, reference: Reference) -> Version | None:
        return await self._one(versions.c.model_id == model.id, *_of(model.project, model.name, reference))

    async def get(self, project: str, model: str, reference: Reference, *, lock: bool = False) -> Version:
        """
        Raises:
            VersionNotFound: there is none.
        """
        version = await self._one(*_of(project, model, reference), lock=lock)
        if version is None:
            raise VersionNotFound(f"There is no version {reference} of {model[:100]}.")
        return version

    async def page(
        self, project: str, model: str, *, before: int | None, limit: int, lock: bool = False
    ) -> Sequence[Version]:
        """The newest first."""
        of = _of(project, model, Reference())
        if before is not None:
            of.append(versions.c.number < before)
        query = sa.select(*COLUMNS).where(*of).order_by(versions.c.number.desc()).limit(limit)
        rows = await self._connection.execute(query.with_for_update() if lock else query)
        return [_version(row) for row in rows]

    async def attest(self, version: Version, attestations: Sequence[Envelope]) -> Version:
        """These are all there are. The version is locked by this transaction."""
        this = sa.and_(versions.c.project == version.project, versions.c.id == version.id)
        statement = sa.update(versions).where(this).values(attestations=list(attestations)).returning(*COLUMNS)
        return _version((await self._connection.execute(statement)).one())

    async def delete(self, version: Version) -> None:
        this = sa.and_(versions.c.project == version.project, versions.c.id == version.id)
        await self._connection.execute(sa.delete(versions).where(this))

    async def _next_number(self, model: Model) -> int:
        statement = pg.insert(numbers).values(project=model.project, model=model.name, last=1)
        raised = statement.on_conflict_do_update(index_elements=["project", "model"], set_={"last": numbers.c.last + 1})
        return int((await self._connection.execute(raised.returning(numbers.c.last))).scalar_one())

    async def _one(self, *where: sa.ColumnElement[bool], lock: bool = False) -> Version | None:
        query = sa.select(*COLUMNS).where(*where).order_by(versions.c.number.desc()).limit(1)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else _version(row)


def _of(project: str, model: str, reference: Reference) -> list[sa.ColumnElement[bool]]:
    of = [versions.c.project == project, versions.c.model == model]
    if reference.number is not None:
        of.append(versions.c.number == reference.number)
    elif reference.digest is not None:
        of.append(versions.c.digest == reference.digest)
    elif reference.alias is not None:
        pointed = sa.select(aliases.c.number).where(
            aliases.c.project == project,
            aliases.c.model_id == versions.c.model_id,
            aliases.c.name == reference.alias,
        )
        of.append(versions.c.number == pointed.scalar_subquery())
    return of


def _version(row: sa.Row[Any]) -> Version:
    return Version(**{**row._mapping, "manifest": Manifest.model_validate(row.manifest)})
