"""Bundles in the database. Every statement about the bundles table is in this file."""

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from trainer.domain.bundles import Bundle, BundleNotFound
from trainer.store.tables import bundles


class BundleStore:
    """Reads and writes bundles in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, project: str, bundle: Bundle, entries: Sequence[str]) -> None:
        """A bundle whose bytes are stored. Again: it is used again."""
        values = {"project": project, "digest": bundle.digest, "size": bundle.size, "files": bundle.files}
        statement = pg.insert(bundles).values(**values, entries=list(entries))
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=["project", "digest"], set_={"used_at": NOW})
        )

    async def get(self, project: str, digest: str) -> Bundle:
        """
        Raises:
            BundleNotFound: there is none.
        """
        query = sa.select(bundles.c.digest, bundles.c.size, bundles.c.files).where(_is(project, digest))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise _missing(digest)
        return Bundle(*row)

    async def use(self, project: str, digest: str) -> Sequence[str]:
        """Keep it for longer. Answers what can be started in it; it stays until the transaction ends.

        Raises:
            BundleNotFound: there is none.
        """
        statement = sa.update(bundles).where(_is(project, digest)).values(used_at=NOW).returning(bundles.c.entries)
        entries: list[str] | None = (await self._connection.execute(statement)).scalar_one_or_none()
        if entries is None:
            raise _missing(digest)
        return entries

    async def count(self, project: str) -> int:
        """How many a project has."""
        query = sa.select(sa.func.count()).where(bundles.c.project == project)
        return int((await self._connection.execute(query)).scalar_one())

    async def retire(self, age: timedelta, *, limit: int) -> Sequence[tuple[str, str]]:
        """Forget bundles that nobody has used for so long. What a job needs of them, it holds by itself."""
        old = (
            sa.select(bundles.c.project, bundles.c.digest)
            .where(bundles.c.used_at < NOW - age)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("old")
        )
        gone = (
            sa.delete(bundles)
            .where(bundles.c.project == old.c.project, bundles.c.digest == old.c.digest)
            .returning(bundles.c.project, bundles.c.digest)
        )
        return [(row.project, row.digest) for row in await self._connection.execute(gone)]


def _is(project: str, digest: str) -> sa.ColumnElement[bool]:
    return sa.and_(bundles.c.project == project, bundles.c.digest == digest)


def _missing(digest: str) -> BundleNotFound:
    return BundleNotFound(f"There is no bundle {digest}.")
