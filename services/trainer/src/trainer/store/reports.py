"""Logs and metrics in the database. Every statement about these two tables is in this file."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from trainer.domain.jobs import Job
from trainer.domain.leased import Attempt
from trainer.domain.reports import FULL, MAX_LOG_BYTES, Kept, Line, Point
from trainer.store.tables import attempts, logs, points


class ReportStore:
    """Reads and writes reports in the caller's transaction, which has locked the attempt when it writes."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add_lines(
        self, attempt: Attempt, source: str, lines: Sequence[Line], *, limit: int = MAX_LOG_BYTES
    ) -> None:
        """Keep lines, each number once, until the attempt's log is full."""
        size = sum(len(line.message.encode()) for line in lines)
        of = sa.and_(attempts.c.project == attempt.project, attempts.c.id == attempt.id)
        # A batch that is sent again counts again: the limit guards the disk and need not be exact.
        counted = sa.update(attempts).where(of).values(log_bytes=attempts.c.log_bytes + size)
        total = (await self._connection.execute(counted.returning(attempts.c.log_bytes))).scalar_one()
        if total <= limit:
            await self._add(logs, attempt, source, lines)
        elif total - size <= limit and lines:
            first = lines[0]
            await self._add(
                logs, attempt, source, [Line(number=first.number, at=first.at, level="warning", message=FULL)]
            )

    async def add_points(self, attempt: Attempt, source: str, found: Sequence[Point]) -> None:
        """Keep points, each number once."""
        await self._add(points, attempt, source, found)

    async def lines(self, project: str, job_id: uuid.UUID, *, after: int, limit: int) -> Sequence[Kept[Line]]:
        """The log of all attempts, in the order in which it was written."""
        return [
            Kept(row.id, row.attempt, row.source, Line(**_values(row, Line)))
            for row in await self._read(logs, project, job_id, after, limit)
        ]

    async def points(self, project: str, job_id: uuid.UUID, *, after: int, limit: int) -> Sequence[Kept[Point]]:
        """The metrics of all attempts, in the order in which they were written."""
        return [
            Kept(row.id, row.attempt, row.source, Point(**_values(row, Point)))
            for row in await self._read(points, project, job_id, after, limit)
        ]

    async def remove(self, job: Job) -> None:
        """Forget all that a job reported."""
        for table in (logs, points):
            of = sa.and_(table.c.project == job.project, table.c.job_id == job.id)
            await self._connection.execute(sa.delete(table).where(of))

    async def _add(
        self, table: sa.Table, attempt: Attempt, source: str, reports: Sequence[Line] | Sequence[Point]
    ) -> None:
        owner = {
            "project": attempt.project,
            "job_id": attempt.job_id,
            "attempt_id": attempt.id,
            "attempt": attempt.number,
            "fence": attempt.fence,
            "source": source,
        }
        rows = [owner | asdict(report) for report in reports]
        if rows:
            await self._connection.execute(pg.insert(table).on_conflict_do_nothing(), rows)

    async def _read(
        self, table: sa.Table, project: str, job_id: uuid.UUID, after: int, limit: int
    ) -> Sequence[sa.Row[Any]]:
        of = sa.and_(table.c.project == project, table.c.job_id == job_id, table.c.id > after)
        return (await self._connection.execute(sa.select(table).where(of).order_by(table.c.id).limit(limit))).all()


def _values(row: sa.Row[Any], kind: type[Line] | type[Point]) -> dict[str, Any]:
    return {field.name: row._mapping[field.name] for field in fields(kind)}
