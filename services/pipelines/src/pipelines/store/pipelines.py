"""Pipelines in the database. Every statement about the pipelines table is in this file."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from kit.ids import uuid7
from pipelines.domain.pipelines import Pipeline, PipelineNotFound
from pipelines.store.tables import pipelines


class PipelineStore:
    """Reads and writes pipelines in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, project: str, name: str, definition: Mapping[str, Any]) -> Pipeline | None:
        """A new pipeline. None: there is one of that name by now."""
        values = {"id": uuid7(), "project": project, "name": name, "definition": dict(definition), "revision": 1}
        statement = pg.insert(pipelines).values(values).on_conflict_do_nothing().returning(*pipelines.c)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _pipeline(row)

    async def find(self, project: str, name: str, *, lock: bool = False) -> Pipeline | None:
        query = sa.select(pipelines).where(pipelines.c.project == project, pipelines.c.name == name)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else _pipeline(row)

    async def get(self, project: str, name: str, *, lock: bool = False) -> Pipeline:
        """
        Raises:
            PipelineNotFound: the project has none of that name.
        """
        found = await self.find(project, name, lock=lock)
        if found is None:
            raise PipelineNotFound(f"There is no pipeline {name[:100]}.")
        return found

    async def page(self, project: str, *, after: str | None, limit: int) -> Sequence[Pipeline]:
        """By name."""
        query = sa.select(pipelines).where(pipelines.c.project == project).order_by(pipelines.c.name).limit(limit)
        if after is not None:
            query = query.where(pipelines.c.name > after)
        return [_pipeline(row) for row in await self._connection.execute(query)]

    async def change(self, pipeline: Pipeline, definition: Mapping[str, Any]) -> Pipeline:
        """Give the pipeline (locked by this transaction) another definition."""
        statement = (
            sa.update(pipelines)
            .where(_is(pipeline.project, pipeline.id))
            .values(definition=dict(definition), revision=pipelines.c.revision + 1, updated_at=NOW)
            .returning(*pipelines.c)
        )
        return _pipeline((await self._connection.execute(statement)).one())

    async def delete(self, pipeline: Pipeline) -> None:
        await self._connection.execute(sa.delete(pipelines).where(_is(pipeline.project, pipeline.id)))


def _is(project: str, id_: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(pipelines.c.project == project, pipelines.c.id == id_)


def _pipeline(row: sa.Row[Any]) -> Pipeline:
    return Pipeline(**row._mapping)
