"""Requests that are answered later, in the database. Every statement about this table is in this file."""

import uuid
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import leases
from kit.db import NOW
from kit.ids import uuid7
from serving.domain.predictions import FINAL, Later, Phase, PredictionNotFound, TooManyPredictions
from serving.store.tables import predictions

_NAMES = ("id", "project", "deployment", "request_id", "phase", "message", "status", "answer", "attempts", "generation")
_COLUMNS = [predictions.c[name] for name in (*_NAMES, "created_at", "finished_at")]


class PredictionStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def require_room(self, project: str, size: int, *, requests: int, size_limit: int) -> None:
        """Make sure that this transaction may add a body of `size` bytes, and no other meanwhile.

        Raises:
            TooManyPredictions: as many requests, or bytes, of the project wait as may.
        """
        turn = sa.func.hashtextextended(f"predictions of {project}", 0)
        await self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(turn)))
        waiting = (predictions.c.project == project, predictions.c.phase == Phase.PENDING)
        total = sa.func.coalesce(sa.func.sum(predictions.c.size), 0)
        count, kept = (await self._connection.execute(sa.select(sa.func.count(), total).where(*waiting))).one()
        if count >= requests or kept + size > size_limit:
            raise TooManyPredictions(
                f"{count} requests of this project wait already.", retry_after=timedelta(seconds=5)
            )

    async def add(self, project: str, deployment: str, request_id: str, body: bytes) -> Later:
        """A new one. Its row is the queue entry."""
        values = {"id": uuid7(), "project": project, "deployment": deployment, "request_id": request_id}
        statement = sa.insert(predictions).values(**values, body=body, size=len(body)).returning(*_COLUMNS)
        return _later((await self._connection.execute(statement)).one())

    async def get(self, project: str, deployment: str, prediction: uuid.UUID) -> Later:
        """
        Raises:
            PredictionNotFound: there is none, or it is not kept any more.
        """
        of = sa.and_(_is(project, prediction), predictions.c.deployment == deployment)
        row = (await self._connection.execute(sa.select(*_COLUMNS).where(of))).one_or_none()
        if row is None:
            raise PredictionNotFound(f"Deployment {deployment[:100]} has no prediction {prediction}.")
        return _later(row)

    async def begin(self, lease: leases.Lease) -> tuple[Later, bytes] | None:
        """The owner of the lease answers it. None: it is another's, or done."""
        mine = sa.and_(_is(lease.project, lease.id), predictions.c.fence == lease.fence)
        begun = sa.update(predictions).where(mine, predictions.c.phase == Phase.PENDING)
        statement = begun.values(attempts=predictions.c.attempts + 1).returning(*_COLUMNS, predictions.c.body)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else (_later(row), bytes(row.body))

    async def finish(self, lease: leases.Lease, seen: Later, status: int, answer: bytes) -> bool:
        """Record the answer, for good. False: somebody else has it by now."""
        phase = Phase.SUCCEEDED if status < 400 else Phase.FAILED
        values: dict[str, Any] = {"phase": phase, "status": status, "answer": answer, "body": None, "message": ""}
        return await self._record(lease, seen, None, **values, finished_at=NOW)

    async def postpone(
        self, lease: leases.Lease, seen: Later, due_in: timedelta, message: str, *, counts: bool
    ) -> bool:
        """Give it back for later, for a reason. `counts`: it may be the request's own doing."""
        attempts = predictions.c.attempts - (0 if counts else 1)
        return await self._record(lease, seen, due_in, message=message[:1000], attempts=attempts)

    async def _record(self, lease: leases.Lease, seen: Later, due_in: timedelta | None, **values: Any) -> bool:
        return await leases.record(
            self._connection, predictions, lease, generation=seen.generation, final=FINAL, due_in=due_in, **values
        )

    async def purge(self, age: timedelta, lost: tuple[int, bytes]) -> int:
        """Forget answers that are older than that; who still waits then is told that nobody could. Says how many."""
        old = sa.and_(predictions.c.phase != Phase.PENDING, predictions.c.finished_at < NOW - age)
        forgotten = (await self._connection.execute(sa.delete(predictions).where(old))).rowcount
        status, answer = lost
        failed = {"phase": Phase.FAILED, "status": status, "answer": answer, "body": None, "finished_at": NOW}
        waits = sa.and_(predictions.c.phase == Phase.PENDING, predictions.c.created_at < NOW - age)
        await self._connection.execute(sa.update(predictions).where(waits).values(**failed, due_at=None))
        return forgotten


def _is(project: str, prediction: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(predictions.c.project == project, predictions.c.id == prediction)


def _later(row: sa.Row[Any]) -> Later:
    values = {name: getattr(row, name) for name in (*_NAMES, "created_at", "finished_at")}
    answer = None if row.answer is None else bytes(row.answer)
    return Later(**values | {"phase": Phase(row.phase), "answer": answer})
