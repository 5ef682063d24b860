"""Jobs in the database. Every statement about the jobs table is in this file."""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import leases, tracing
from kit.db import NOW
from trainer.domain.attempts import TrainingSpec
from trainer.domain.jobs import (
    FINAL,
    NO_REASON,
    Job,
    JobFinished,
    JobNotFound,
    JobRunning,
    JobSpec,
    Phase,
    Pinned,
    Reason,
    Why,
)
from trainer.store.tables import jobs

_NOT_READ = {"due_at", "fence", "lease_until", "traceparent"}
COLUMNS = [column for column in jobs.c if column.name not in _NOT_READ]


class JobStore:
    """Reads and writes jobs in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, job_id: uuid.UUID, *, project: str, subject: str, spec: JobSpec) -> Job:
        """A new job. Its row is the queue entry."""
        why = Reason.WAITING_FOR_DATASET
        values = {"id": job_id, "project": project, "subject": subject, "spec": document_of(spec), "reason": why}
        row = (await self._connection.execute(sa.insert(jobs).values(values).returning(*COLUMNS))).one()
        return _job(row)

    async def get(self, project: str, job_id: uuid.UUID) -> Job:
        """As a caller sees it.

        Raises:
            JobNotFound: there is none, or it is deleted.
        """
        query = sa.select(*COLUMNS).where(_is(project, job_id), ~jobs.c.delete_requested)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise JobNotFound(f"There is no job {job_id}.")
        return _job(row)

    async def find(self, project: str, job_id: uuid.UUID, *, lock: bool = False) -> Job | None:
        """As a reconciler sees it: deleted ones too, until they are forgotten."""
        query = sa.select(*COLUMNS).where(_is(project, job_id))
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else _job(row)

    async def page(self, project: str, *, before: uuid.UUID | None, limit: int) -> Sequence[Job]:
        """The newest first: ids sort by time."""
        of = [jobs.c.project == project, ~jobs.c.delete_requested]
        if before is not None:
            of.append(jobs.c.id < before)
        query = sa.select(*COLUMNS).where(*of).order_by(jobs.c.id.desc()).limit(limit)
        return [_job(row) for row in await self._connection.execute(query)]

    async def request_cancel(self, project: str, job_id: uuid.UUID) -> Job:
        """Ask for the end of the job. Asking again is asking.

        Raises:
            JobFinished: it has ended, or its result is being registered.
            JobNotFound: there is none.
        """
        # The state is checked in the statement: a check before it could be out of date by now.
        wanted = sa.and_(_is(project, job_id), jobs.c.phase.not_in(FINAL), ~jobs.c.registering)
        changed = sa.update(jobs).where(wanted, ~jobs.c.cancel_requested).values(cancel_requested=True, **_WOKEN)
        row = (await self._connection.execute(changed.returning(*COLUMNS))).one_or_none()
        if row is not None:
            return _job(row)
        job = await self.get(project, job_id)
        if job.phase in FINAL or job.registering:
            state = job.phase if job.phase in FINAL else "being registered"
            raise JobFinished(f"Job {job_id} is already {state}.")
        return job

    async def request_delete(self, project: str, job_id: uuid.UUID) -> Job:
        """Make a job that has ended disappear.

        Raises:
            JobRunning: it has not ended.
            JobNotFound: there is none.
        """
        statement = (
            sa.update(jobs)
            .where(_is(project, job_id), jobs.c.phase.in_(FINAL), ~jobs.c.delete_requested)
            .values(delete_requested=True, traceparent=tracing.traceparent.get(), **_WOKEN)
            .returning(*COLUMNS)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            job = await self.get(project, job_id)
            raise JobRunning(f"Job {job_id} is {job.phase}; cancel it first.")
        return _job(row)

    async def retire(self, phases: Collection[Phase], age: timedelta, *, limit: int) -> Sequence[Job]:
        """Delete jobs that ended in one of the phases longer ago than that."""
        old = (
            sa.select(jobs.c.project, jobs.c.id)
            .where(
                jobs.c.phase.in_(list(phases)),
                ~jobs.c.delete_requested,
                jobs.c.finished_at < NOW - age,
            )
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("old")
        )
        statement = (
            sa.update(jobs)
            .where(jobs.c.project == old.c.project, jobs.c.id == old.c.id)
            .values(delete_requested=True, traceparent=None, **_WOKEN)
            .returning(*COLUMNS)
        )
        return [_job(row) for row in await self._connection.execute(statement)]

    async def begin(self, project: str, job_id: uuid.UUID) -> None:
        """An attempt of the job has a runner."""
        started = {"phase": Phase.RUNNING, "started_at": sa.func.coalesce(jobs.c.started_at, NOW)}
        await self._connection.execute(
            sa.update(jobs)
            .where(_is(project, job_id), jobs.c.phase.not_in(FINAL))
            .values(**started, **_why(NO_REASON), **_WOKEN)
        )

    async def wake(self, project: str, job_id: uuid.UUID) -> None:
        """Something has happened to the job's attempt: whoever looks at the job just now has to look again."""
        await self._connection.execute(sa.update(jobs).where(_is(project, job_id)).values(**_WOKEN))

    async def wake_waiting(self, project: str, dataset: str) -> int:
        """Something has happened to a dataset: look again at the jobs that wait for a version of it. Says how many."""
        named = jobs.c.spec["dataset"].astext
        waiting = sa.and_(jobs.c.project == project, jobs.c.phase == Phase.PENDING, jobs.c.pinned_digest.is_(None))
        return await leases.wake(self._connection, jobs, waiting, sa.func.split_part(named, "@", 1) == dataset)

    async def now(self) -> datetime:
        """The database's clock."""
        now: datetime = (await self._connection.execute(sa.select(NOW))).scalar_one()
        return now

    async def record(
        self,
        lease: leases.Lease,
        seen: Job,
        *,
        due_in: timedelta | None,
        why: Why | None = None,
        pinned: Pinned | None = None,
        **values: object,
    ) -> bool:
        """Record what the owner of the lease did for the job it saw, and give the lease back."""
        if why is not None:
            values |= _why(why)
        if pinned is not None:
            values |= {"pinned_reference": pinned.reference, "pinned_digest": pinned.digest}
        return await leases.record(
            self._connection, jobs, lease, generation=seen.generation, final=FINAL, due_in=due_in, **values
        )

    async def settle(
        self,
        lease: leases.Lease,
        seen: Job,
        *,
        phase: Phase,
        why: Why,
        metrics: dict[str, float] | None = None,
        model: dict[str, Any] | None = None,
    ) -> bool:
        """Record how the job ended, for good."""
        values: dict[str, Any] = {"phase": phase, "finished_at": NOW, "registering": False}
        values |= {} if metrics is None else {"metrics": metrics}
        values |= {} if model is None else {"model": model}
        return await self.record(lease, seen, due_in=None, why=why, **values)

    async def remove(self, lease: leases.Lease, seen: Job) -> bool:
        """Forget the job. Its attempts are gone already."""
        mine = sa.and_(_is(lease.project, lease.id), jobs.c.fence == lease.fence, jobs.c.generation == seen.generation)
        gone = await self._connection.execute(sa.delete(jobs).where(mine, jobs.c.delete_requested))
        return gone.rowcount == 1


# Changing what is wanted leaves the lease alone: its owner's answer to the older question is then refused.
_WOKEN: dict[str, Any] = {"generation": jobs.c.generation + 1, "due_at": NOW}


def _is(project: str, job_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(jobs.c.project == project, jobs.c.id == job_id)


def _why(why: Why) -> dict[str, object]:
    return {"reason": why.reason, "message": why.message[:2000], "hint": why.hint[:2000]}


def document_of(spec: JobSpec) -> dict[str, Any]:
    """As the row has it."""
    return {
        "dataset": spec.dataset,
        "training": spec.training.to_json(),
        "retries": spec.retries,
        "deadline": spec.deadline.total_seconds(),
        "model": spec.model,
    }


def _spec(document: dict[str, Any]) -> JobSpec:
    training, deadline = TrainingSpec.from_json(document["training"]), timedelta(seconds=document["deadline"])
    return JobSpec(**document | {"training": training, "deadline": deadline})


def _job(row: sa.Row[Any]) -> Job:
    values = dict(row._mapping)
    reference, digest = values.pop("pinned_reference"), values.pop("pinned_digest")
    why = Why(Reason(values.pop("reason")), values.pop("message"), values.pop("hint"))
    return Job(
        **values
        | {
            "spec": _spec(values["spec"]),
            "phase": Phase(values["phase"]),
            "why": why,
            "pinned": None if reference is None else Pinned(reference, digest),
        }
    )
