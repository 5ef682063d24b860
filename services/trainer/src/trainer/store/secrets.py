"""Sealed secrets in the database. Every statement about the secrets table is in this file."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from trainer.domain.secrets import Secret, SecretNotFound
from trainer.store.tables import secrets

COLUMNS = [column for column in secrets.c if column.name not in {"project", "sealed"}]


class SecretStore:
    """Reads and writes sealed secrets in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, project: str, name: str, sealed: bytes, subject: str) -> Secret:
        """Set it, whether there was one or not."""
        values: dict[str, Any] = {"sealed": sealed, "subject": subject}
        statement = (
            pg.insert(secrets)
            .values(project=project, name=name, **values)
            .on_conflict_do_update(
                index_elements=list(secrets.primary_key),
                set_=values | {"version": secrets.c.version + 1, "updated_at": NOW},
            )
            .returning(*COLUMNS)
        )
        return _secret((await self._connection.execute(statement)).one())

    async def get(self, project: str, name: str) -> Secret:
        """
        Raises:
            SecretNotFound: there is none.
        """
        query = sa.select(*COLUMNS).where(_is(project, name))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise SecretNotFound(f"There is no secret {name}.")
        return _secret(row)

    async def page(self, project: str, *, after: str | None, limit: int) -> Sequence[Secret]:
        """By name."""
        of = [secrets.c.project == project] + ([] if after is None else [secrets.c.name > after])
        query = sa.select(*COLUMNS).where(*of).order_by(secrets.c.name).limit(limit)
        return [_secret(row) for row in await self._connection.execute(query)]

    async def sealed(self, project: str, names: Collection[str]) -> Mapping[str, bytes]:
        """Those of the names that there are, as they are kept."""
        of = sa.and_(secrets.c.project == project, secrets.c.name.in_(list(names)))
        rows = await self._connection.execute(sa.select(secrets.c.name, secrets.c.sealed).where(of))
        return {row.name: bytes(row.sealed) for row in rows}

    async def delete(self, project: str, name: str) -> None:
        """
        Raises:
            SecretNotFound: there is none.
        """
        gone = await self._connection.execute(sa.delete(secrets).where(_is(project, name)))
        if gone.rowcount == 0:
            raise SecretNotFound(f"There is no secret {name}.")


def _is(project: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(secrets.c.project == project, secrets.c.name == name)


def _secret(row: sa.Row[Any]) -> Secret:
    return Secret(**row._mapping)
