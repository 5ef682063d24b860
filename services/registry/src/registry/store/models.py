"""Models in the database. Every statement about the models table is in this file."""

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.ids import uuid7
from registry.domain.models import Model, ModelExists, ModelNotFound
from registry.store.tables import models


class ModelStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, project: str, name: str, description: str) -> Model:
        """
        Raises:
            ModelExists: the project has one of that name.
        """
        statement = pg.insert(models).values(_values(project, name, description)).on_conflict_do_nothing()
        row = (await self._connection.execute(statement.returning(*models.c))).one_or_none()
        if row is None:
            raise ModelExists(f"There is a model {name} already.")
        return Model(**row._mapping)

    async def get(self, project: str, name: str, *, lock: bool = False) -> Model:
        """With `lock`, whoever else means to change the model or what belongs to it waits for this transaction.

        Raises:
            ModelNotFound: the project has none of that name.
        """
        query = sa.select(models).where(models.c.project == project, models.c.name == name)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise ModelNotFound(f"There is no model {name[:100]}.")
        return Model(**row._mapping)

    async def ensure(self, project: str, name: str) -> tuple[Model, bool]:
        """The model, locked, and whether it was just made."""
        try:
            return await self.get(project, name, lock=True), False
        except ModelNotFound:
            pass
        # One statement that makes it or locks the one that somebody else has just made.
        values = _values(project, name, "")
        statement = pg.insert(models).values(values)
        locked = statement.on_conflict_do_update(
            index_elements=["project", "name"], set_={"description": models.c.description}
        )
        row = (await self._connection.execute(locked.returning(*models.c))).one()
        return Model(**row._mapping), row.id == values["id"]

    async def page(self, project: str, *, after: str | None, limit: int) -> Sequence[Model]:
        """By name."""
        query = sa.select(models).where(models.c.project == project).order_by(models.c.name).limit(limit)
        if after is not None:
            query = query.where(models.c.name > after)
        return [Model(**row._mapping) for row in await self._connection.execute(query)]

    async def delete(self, model: Model) -> None:
        await self._connection.execute(sa.delete(models).where(_is(model.project, model.id)))


def _values(project: str, name: str, description: str) -> dict[str, Any]:
    return {"id": uuid7(), "project": project, "name": name, "description": description}


def _is(project: str, id_: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(models.c.project == project, models.c.id == id_)
