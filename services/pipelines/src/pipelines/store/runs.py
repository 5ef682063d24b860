"""Runs in the database. Every statement about the runs table is in this file."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from kit.roles import Role
from pipelines.domain.pipelines import Pipeline
from pipelines.domain.runs import FINAL, RESUMABLE, Phase, Run, RunNotFound
from pipelines.store.tables import runs, steps


class RunStore:
    """Reads and writes runs in the caller's transaction.

    Whoever writes to several rows of one run locks the run's first, so that nobody waits for another in a circle.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, run_id: uuid.UUID, pipeline: Pipeline, *, parameters: dict[str, Any], subject: str, role: Role
    ) -> Run:
        values = {
            "project": pipeline.project,
            "id": run_id,
            "pipeline": pipeline.name,
            "revision": pipeline.revision,
            "parameters": parameters,
            "subject": subject,
            "role": role,
        }
        return run_of((await self._connection.execute(sa.insert(runs).values(values).returning(*runs.c))).one())

    async def find(self, project: str, run_id: uuid.UUID, *, lock: bool = False) -> Run | None:
        query = sa.select(runs).where(_is(project, run_id))
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else run_of(row)

    async def get(self, project: str, run_id: uuid.UUID, *, lock: bool = False) -> Run:
        """
        Raises:
            RunNotFound: the project has none with that id.
        """
        found = await self.find(project, run_id, lock=lock)
        if found is None:
            raise RunNotFound(f"There is no run {run_id}.")
        return found

    async def page(self, project: str, *, pipeline: str | None, before: uuid.UUID | None, limit: int) -> Sequence[Run]:
        """The newest first: ids sort by time."""
        of = [runs.c.project == project]
        if pipeline is not None:
            of.append(runs.c.pipeline == pipeline)
        if before is not None:
            of.append(runs.c.id < before)
        query = sa.select(runs).where(*of).order_by(runs.c.id.desc()).limit(limit)
        return [run_of(row) for row in await self._connection.execute(query)]

    async def any_under_way(self, project: str, pipeline: str) -> bool:
        """Whether a run of the pipeline has not ended."""
        of = sa.and_(runs.c.project == project, runs.c.pipeline == pipeline, runs.c.phase.not_in(FINAL))
        return bool((await self._connection.execute(sa.select(sa.exists().where(of)))).scalar_one())

    async def request_cancel(self, run: Run) -> bool:
        """Ask for the end of a run. False: it has ended, or was asked for before."""
        wanted = sa.and_(_is(run.project, run.id), runs.c.phase.not_in(FINAL), ~runs.c.cancel_requested)
        values = {"cancel_requested": True, "reason": "cancelling", "message": "The run is being cancelled."}
        return (await self._connection.execute(sa.update(runs).where(wanted).values(values))).rowcount == 1

    async def reopen(self, run: Run) -> bool:
        """Let a run that did not succeed go on. False: it is none."""
        values = {"phase": Phase.RUNNING, "reason": "", "message": "", "cancel_requested": False, "finished_at": None}
        wanted = sa.and_(_is(run.project, run.id), runs.c.phase.in_(RESUMABLE))
        return (await self._connection.execute(sa.update(runs).where(wanted).values(values))).rowcount == 1

    async def settle(self, run: Run, phase: Phase, reason: str, message: str) -> bool:
        """Record how a run ended. False: that is recorded already."""
        values = {"phase": phase, "reason": reason, "message": message[:2000], "finished_at": NOW}
        wanted = sa.and_(_is(run.project, run.id), runs.c.phase.not_in(FINAL))
        return (await self._connection.execute(sa.update(runs).where(wanted).values(values))).rowcount == 1

    async def delete(self, run: Run) -> bool:
        """Forget a run that has ended. Its steps are gone already."""
        wanted = sa.and_(_is(run.project, run.id), runs.c.phase.in_(FINAL))
        return (await self._connection.execute(sa.delete(runs).where(wanted))).rowcount == 1

    async def stuck(self, *, limit: int) -> Sequence[Run]:
        """Runs under way of which no step is due, ever: something that follows from their steps did not follow."""
        moving = sa.exists().where(
            steps.c.project == runs.c.project, steps.c.run_id == runs.c.id, steps.c.due_at.is_not(None)
        )
        query = sa.select(runs).where(runs.c.phase.not_in(FINAL), ~moving).limit(limit)
        rows = await self._connection.execute(query.with_for_update(skip_locked=True))
        return [run_of(row) for row in rows]

    async def old(self, age: timedelta, *, limit: int) -> Sequence[Run]:
        """Runs that ended longer ago than that, locked."""
        query = (
            sa.select(runs)
            .where(runs.c.finished_at < NOW - age, runs.c.phase.in_(FINAL))
            .order_by(runs.c.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [run_of(row) for row in await self._connection.execute(query)]


def _is(project: str, run_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(runs.c.project == project, runs.c.id == run_id)


def run_of(row: sa.Row[Any]) -> Run:
    """A run, from a row of its table."""
    return Run(**{**row._mapping, "phase": Phase(row.phase), "role": Role(row.role)})
