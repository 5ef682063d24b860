"""Batches and their parts in the database. Every statement about these two tables is in this file."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import leases, tracing
from kit.db import NOW
from kit.ids import uuid7
from serving.domain.batches import (
    ATTEMPTS,
    FINAL,
    Asked,
    Batch,
    BatchFinished,
    BatchNotFound,
    BatchRunning,
    Cut,
    Part,
    Phase,
    Pinned,
    Progress,
    Reason,
    Result,
    TooManyBatches,
    Why,
)
from serving.domain.deployments import Deployment
from serving.domain.revisions import Target
from serving.store.tables import batch_parts, batches

WAITING, DONE = "waiting", "done"
_NOT_READ = {"due_at", "fence", "lease_until", "traceparent", "rows_done", "refused"}
_COLUMNS = [column for column in batches.c if column.name not in _NOT_READ]
_PART = [batch_parts.c[name] for name in ("id", "project", "batch_id", "digest", "start", "first", "rows")]
_PART += [batch_parts.c[name] for name in ("attempts", "generation")]


def _woken() -> dict[str, Any]:
    # What is wanted is something else from now on: whoever has looked before records nothing.
    return {"generation": batches.c.generation + 1, "due_at": NOW, "traceparent": tracing.traceparent.get()}


class BatchStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def require_room(self, project: str, limit: int) -> None:
        """Make sure that this transaction may add one, and no other meanwhile.

        Raises:
            TooManyBatches: `limit` of the project are under way.
        """
        turn = sa.func.hashtextextended(f"batches of {project}", 0)
        await self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(turn)))
        under_way = (batches.c.project == project, batches.c.phase.not_in(sorted(FINAL)))
        count = await self._connection.execute(sa.select(sa.func.count()).select_from(batches).where(*under_way))
        if count.scalar_one() >= limit:
            raise TooManyBatches(f"A project may have {limit} batches under way.", retry_after=timedelta(seconds=30))

    async def add(self, deployment: Deployment, subject: str, asked: Asked) -> Batch:
        """A new batch on the revision that the deployment (read in this transaction) is to serve."""
        assert deployment.revision is not None
        values = {
            "id": uuid7(),
            "project": deployment.project,
            "subject": subject,
            "deployment": deployment.name,
            "revision": deployment.revision.number,
            "targets": [target.to_json() for target in deployment.revision.targets],
            "asked": asdict(asked),
            "reason": Reason.WAITING_FOR_DATASET,
        }
        return _batch((await self._connection.execute(sa.insert(batches).values(values).returning(*_COLUMNS))).one())

    async def get(self, project: str, deployment: str, batch: uuid.UUID) -> Batch:
        """As a caller sees it.

        Raises:
            BatchNotFound: the deployment has none of that id, or it is deleted.
        """
        of = sa.and_(_is(project, batch), batches.c.deployment == deployment, ~batches.c.delete_requested)
        row = (await self._connection.execute(sa.select(*_COLUMNS).where(of))).one_or_none()
        if row is None:
            raise BatchNotFound(f"Deployment {deployment[:100]} has no batch {batch}.")
        return _batch(row)

    async def find(self, project: str, batch: uuid.UUID) -> Batch | None:
        """As a reconciler sees it: deleted ones too, until they are forgotten."""
        row = (await self._connection.execute(sa.select(*_COLUMNS).where(_is(project, batch)))).one_or_none()
        return None if row is None else _batch(row)

    async def page(self, project: str, deployment: str, *, before: uuid.UUID | None, limit: int) -> Sequence[Batch]:
        """The newest first: ids sort by time."""
        of = [batches.c.project == project, batches.c.deployment == deployment, ~batches.c.delete_requested]
        if before is not None:
            of.append(batches.c.id < before)
        query = sa.select(*_COLUMNS).where(*of).order_by(batches.c.id.desc()).limit(limit)
        return [_batch(row) for row in await self._connection.execute(query)]

    async def request_cancel(self, project: str, deployment: str, batch: uuid.UUID) -> Batch:
        """Ask for its end. Asking again is asking.

        Raises:
            BatchFinished: it has ended, or its result is being written.
            BatchNotFound: there is none.
        """
        # The state is checked in the statement: a check before it could be out of date by now.
        there = sa.and_(_is(project, batch), batches.c.deployment == deployment, ~batches.c.delete_requested)
        wanted = sa.and_(there, batches.c.phase.not_in(sorted(FINAL)), ~batches.c.is_writing)
        statement = sa.update(batches).where(wanted, ~batches.c.cancel_requested)
        await self._connection.execute(statement.values(cancel_requested=True, **_woken()))
        found = await self.get(project, deployment, batch)
        if not found.cancel_requested or found.phase in FINAL:
            state = found.phase if found.phase in FINAL else "being written"
            raise BatchFinished(f"Batch {batch} is already {state}.")
        return found

    async def request_delete(self, project: str, deployment: str, batch: uuid.UUID) -> None:
        """Make one that has ended disappear.

        Raises:
            BatchRunning: it has not ended.
            BatchNotFound: there is none.
        """
        there = sa.and_(_is(project, batch), batches.c.deployment == deployment, ~batches.c.delete_requested)
        ended = sa.and_(there, batches.c.phase.in_(sorted(FINAL)))
        statement = sa.update(batches).where(ended).values(delete_requested=True, **_woken())
        if (await self._connection.execute(statement)).rowcount:
            return
        await self.get(project, deployment, batch)
        raise BatchRunning(f"Batch {batch} has not ended: cancel it first.")

    async def retire(self, age: timedelta) -> int:
        """Delete those that ended longer ago than that. Says how many."""
        old = sa.and_(batches.c.phase.in_(sorted(FINAL)), batches.c.finished_at < NOW - age)
        statement = sa.update(batches).where(old, ~batches.c.delete_requested)
        return (await self._connection.execute(statement.values(delete_requested=True, **_woken()))).rowcount

    async def record(
        self, lease: leases.Lease, seen: Batch, *, due_in: timedelta | None, why: Why | None = None, **values: object
    ) -> bool:
        """Record what the owner of the lease found, and give the lease back. False: it is somebody else's by now."""
        if why is not None:
            values |= {"reason": why.reason, "message": why.message[:2000], "hint": why.hint}
        return await leases.record(
            self._connection,
            batches,
            lease,
            generation=seen.generation,
            final=FINAL,
            due_in=due_in,
            **values,
        )

    async def forget(self, lease: leases.Lease) -> None:
        """Delete the row, if the lease is still its owner's."""
        mine = sa.and_(_is(lease.project, lease.id), batches.c.fence == lease.fence)
        await self._connection.execute(sa.delete(batches).where(mine))

    async def wake(self, project: str, batch: uuid.UUID) -> None:
        """Have it looked at now."""
        await leases.wake(self._connection, batches, _is(project, batch), batches.c.phase.not_in(sorted(FINAL)))

    async def progress(self, found: Iterable[Batch]) -> dict[uuid.UUID, Progress]:
        """How far each is."""
        ids = [batch.id for batch in found]
        kept = sa.select(batches.c.id, batches.c.rows_done, batches.c.refused).where(batches.c.id.in_(ids))
        of = {row.id: Progress(0, 0, row.rows_done, row.refused) for row in await self._connection.execute(kept)}
        done, part = batch_parts.c.phase == DONE, batch_parts.c
        query = (
            sa.select(
                part.batch_id,
                sa.func.count().label("parts"),
                sa.func.count().filter(done).label("done"),
                sa.func.coalesce(sa.func.sum(part.rows).filter(done), 0).label("rows_done"),
                sa.func.coalesce(sa.func.sum(part.refused).filter(done), 0).label("refused"),
                sa.func.max(part.message).filter(~done, part.attempts >= ATTEMPTS, part.due_at.is_(None)).label("lost"),
            )
            .where(part.batch_id.in_(ids))
            .group_by(part.batch_id)
        )
        for row in await self._connection.execute(query):
            of[row.batch_id] = Progress(row.parts, row.done, int(row.rows_done), int(row.refused), row.lost)
        return of


class PartStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, batch: Batch, cuts: Collection[Cut]) -> None:
        """All parts of a batch. Each row is a queue entry."""
        rows = [
            {
                "id": uuid7(),
                "project": batch.project,
                "batch_id": batch.id,
                "position": position,
                **asdict(cut),
            }
            for position, cut in enumerate(cuts)
        ]
        await self._connection.execute(sa.insert(batch_parts), rows)

    async def begin(self, lease: leases.Lease) -> Part | None:
        """The owner of the lease works on the part. None: it is another's, or dropped."""
        mine = sa.and_(_is_part(lease.project, lease.id), batch_parts.c.fence == lease.fence)
        statement = sa.update(batch_parts).where(mine, batch_parts.c.phase == WAITING)
        begun = statement.values(attempts=batch_parts.c.attempts + 1).returning(*_PART)
        row = (await self._connection.execute(begun)).one_or_none()
        return None if row is None else _part(row)

    async def done(self, lease: leases.Lease, part: Part, *, result: str, refused: int) -> bool:
        """Record what became of the part, for good. False: somebody else has it by now."""
        values = {"phase": DONE, "result": result, "refused": refused}
        return await self._record(lease, part, None, **values)

    async def postpone(self, lease: leases.Lease, part: Part, due_in: timedelta, *, uncounted: bool = False) -> bool:
        """Give the part back for later. `uncounted`: the reason to stop was none of its own."""
        values = {"attempts": batch_parts.c.attempts - 1} if uncounted else {}
        return await self._record(lease, part, due_in, **values)

    async def lose(self, lease: leases.Lease, part: Part, message: str) -> bool:
        """Nobody begins it any more."""
        return await self._record(lease, part, None, message=message[:1000])

    async def _record(self, lease: leases.Lease, part: Part, due_in: timedelta | None, **values: object) -> bool:
        return await leases.record(
            self._connection, batch_parts, lease, generation=part.generation, final=(DONE,), due_in=due_in, **values
        )

    async def results(self, batch: Batch) -> list[str]:
        """What each part became, in the order of the rows."""
        of = sa.and_(batch_parts.c.project == batch.project, batch_parts.c.batch_id == batch.id)
        query = sa.select(batch_parts.c.result).where(of).order_by(batch_parts.c.position)
        return list((await self._connection.execute(query)).scalars())

    async def drop(self, batch: Batch) -> None:
        """Whoever works on one of them has lost it."""
        of = sa.and_(batch_parts.c.project == batch.project, batch_parts.c.batch_id == batch.id)
        await self._connection.execute(sa.delete(batch_parts).where(of))


def _is(project: str, batch: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(batches.c.project == project, batches.c.id == batch)


def _is_part(project: str, part: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(batch_parts.c.project == project, batch_parts.c.id == part)


def _batch(row: sa.Row[Any]) -> Batch:
    values = dict(row._mapping)
    asked, result = values.pop("asked"), values.pop("result")
    why = Why(Reason(values.pop("reason")), values.pop("message"), values.pop("hint"))
    columns = asked["columns"]
    return Batch(
        **values
        | {
            "targets": tuple(map(Target.from_json, values["targets"])),
            "asked": Asked(asked["dataset"], asked["output"], asked["split"], None if columns is None else (*columns,)),
            "pinned": None if values["pinned"] is None else Pinned.from_json(values["pinned"]),
            "phase": Phase(values["phase"]),
            "why": why,
            "result": None if result is None else Result(**result),
        }
    )


def _part(row: sa.Row[Any]) -> Part:
    return Part(
        id=row.id,
        project=row.project,
        batch=row.batch_id,
        cut=Cut(row.digest, row.start, row.first, row.rows),
        attempts=row.attempts,
        generation=row.generation,
    )
