"""What keys stand for: who does it, and what came of it. Every statement about the results table is in this file."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit.db import NOW
from pipelines.domain.steps import Step
from pipelines.store.steps import StepStore
from pipelines.store.tables import results

BATCH = 1000


@dataclass(frozen=True)
class Mine:
    """The step that asked does it."""


@dataclass(frozen=True)
class Others:
    """Another step is doing it."""


@dataclass(frozen=True)
class Done:
    """A step has done it."""

    step_id: uuid.UUID
    outputs: Mapping[str, Any]


Claim = Mine | Others | Done


class ResultStore:
    """Reads and writes results in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(self, step: Step, key: str) -> Claim:
        """Ask for the key. One of all who ask at one time gets it; whoever has it and is gone has lost it."""
        values = {"project": step.project, "key": key, "step_id": step.id}
        made = await self._connection.execute(pg.insert(results).values(values).on_conflict_do_nothing())
        if made.rowcount == 1:
            return Mine()
        query = sa.select(results).where(_is(step.project, key)).with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:  # freed between the two statements: the next look finds out
            return Others()
        if row.outputs is not None:
            return Done(row.step_id, row.outputs)
        if row.step_id == step.id:
            return Mine()
        if await StepStore(self._connection).is_live(step.project, row.step_id):
            return Others()
        return Mine() if await self.take_over(step, key, row.step_id) else Others()

    async def take_over(self, step: Step, key: str, from_: uuid.UUID) -> bool:
        """Do it again, since what that step made is gone. False: somebody else took it meanwhile."""
        wanted = sa.and_(_is(step.project, key), results.c.step_id == from_)
        statement = sa.update(results).where(wanted).values(step_id=step.id, outputs=None, used_at=NOW)
        return (await self._connection.execute(statement)).rowcount == 1

    async def keep(self, step: Step, key: str, outputs: Mapping[str, Any]) -> None:
        """What the step that has the key made."""
        mine = sa.and_(_is(step.project, key), results.c.step_id == step.id)
        await self._connection.execute(sa.update(results).where(mine).values(outputs=dict(outputs), used_at=NOW))

    async def free(self, step: Step, key: str) -> None:
        """The step that has the key came to nothing: anybody may try."""
        mine = sa.and_(_is(step.project, key), results.c.step_id == step.id, results.c.outputs.is_(None))
        await self._connection.execute(sa.delete(results).where(mine))

    async def used(self, step: Step, key: str) -> None:
        """Somebody used it: it is kept for longer."""
        await self._connection.execute(sa.update(results).where(_is(step.project, key)).values(used_at=NOW))


async def prune(engine: AsyncEngine, age: timedelta) -> int:
    """Forget what nobody has used for so long, some in each transaction. It is made again when it is needed.

    Says how many.
    """
    old = sa.and_(results.c.used_at < NOW - age, results.c.outputs.is_not(None))
    some = sa.select(results.c.project, results.c.key).where(old).limit(BATCH).with_for_update(skip_locked=True).cte()
    batch = sa.delete(results).where(results.c.project == some.c.project, results.c.key == some.c.key)
    forgotten, full = 0, True
    while full:
        async with engine.begin() as connection:
            gone = (await connection.execute(batch)).rowcount
        forgotten, full = forgotten + gone, gone == BATCH
    return forgotten


def _is(project: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(results.c.project == project, results.c.key == key)
