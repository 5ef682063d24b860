"""Datasets in the database. Every statement about the datasets table is in this file."""

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.domain.datasets import Dataset, DatasetExists, DatasetNotFound, refuse_other_names
from ingest.domain.settings import DatasetSettings
from ingest.store.tables import datasets
from kit.db import NOW
from kit.ids import uuid7


class DatasetStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, project: str, name: str, settings: DatasetSettings) -> Dataset:
        """
        Raises:
            DatasetExists: the project has one of that name.
        """
        values = {
            "id": uuid7(),
            "project": project,
            "name": name,
            "settings": settings.document(),
            "revision": 1,
        }
        statement = pg.insert(datasets).values(values).on_conflict_do_nothing().returning(*datasets.c)
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            raise DatasetExists(f"There is a dataset {name} already.")
        return _dataset(row)

    async def get(self, project: str, name: str, *, lock: bool = False) -> Dataset:
        """
        Raises:
            DatasetNotFound: the project has none of that name.
        """
        refuse_other_names(name)
        query = sa.select(datasets).where(datasets.c.project == project, datasets.c.name == name)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise DatasetNotFound(f"There is no dataset {name[:100]}.")
        return _dataset(row)

    async def page(self, project: str, *, after: str | None, limit: int) -> Sequence[Dataset]:
        query = sa.select(datasets).where(datasets.c.project == project).order_by(datasets.c.name).limit(limit)
        if after is not None:
            query = query.where(datasets.c.name > after)
        return [_dataset(row) for row in await self._connection.execute(query)]

    async def change(self, dataset: Dataset, settings: DatasetSettings) -> Dataset:
        """Give the dataset (locked by this transaction) other settings for its next version."""
        statement = (
            sa.update(datasets)
            .where(_is(dataset.project, dataset.id))
            .values(settings=settings.document(), revision=datasets.c.revision + 1, updated_at=NOW)
            .returning(*datasets.c)
        )
        return _dataset((await self._connection.execute(statement)).one())

    async def delete(self, dataset: Dataset) -> None:
        await self._connection.execute(sa.delete(datasets).where(_is(dataset.project, dataset.id)))


def _is(project: str, id_: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(datasets.c.project == project, datasets.c.id == id_)


def _dataset(row: sa.Row[tuple[object, ...]]) -> Dataset:
    return Dataset(**{**row._mapping, "settings": DatasetSettings.model_validate(row.settings)})
