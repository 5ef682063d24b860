"""What a request does that needs more than one store: jobs and their end, and what runners and programs report."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import audit, blobs, leases
from kit.blobs import Blob
from kit.callers import Caller
from kit.ids import uuid7
from trainer.domain import specs
from trainer.domain.attempts import AttemptResult
from trainer.domain.jobs import Job, JobSpec, Phase, Why
from trainer.domain.leased import (
    Attempt,
    AttemptOver,
    AttemptPhase,
    OutputDiffers,
    OutputsMissing,
    ending_of,
)
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.jobs import JobStore

SERVICE = "trainer"
RUNNERS = "trainer_runners"
"""The channel on which runners are told that an attempt waits for one."""
NOUN = "job"


@dataclass(frozen=True)
class Work:
    """An attempt that a runner has from now on, and its job."""

    granted: Granted
    job: Job


async def create_job(connection: AsyncConnection, caller: Caller, spec: JobSpec) -> Job:
    """
    Raises:
        JobInvalid, EstimatorInvalid: it cannot work, whatever the data are.
    """
    specs.check(spec)
    job = await JobStore(connection).add(uuid7(), project=caller.project, subject=caller.subject, spec=spec)
    await audit.record(connection, caller, "create", NOUN, str(job.id), {"dataset": spec.dataset, "model": spec.model})
    await leases.hint(connection, SERVICE)
    return job


async def cancel_job(connection: AsyncConnection, caller: Caller, job_id: uuid.UUID) -> Job:
    """
    Raises:
        JobFinished: too late.
        JobNotFound: there is none.
    """
    job = await JobStore(connection).request_cancel(caller.project, job_id)
    await audit.record(connection, caller, "cancel", NOUN, str(job_id), {})
    await leases.hint(connection, SERVICE)
    return job


async def delete_job(connection: AsyncConnection, caller: Caller, job_id: uuid.UUID) -> None:
    """
    Raises:
        JobRunning: it has not ended.
        JobNotFound: there is none.
    """
    job = await JobStore(connection).request_delete(caller.project, job_id)
    await audit.record(connection, caller, "delete", NOUN, str(job_id), {"phase": job.phase})
    await leases.hint(connection, SERVICE)


async def retire_jobs(engine: AsyncEngine, phases: Collection[Phase], age: timedelta, *, limit: int = 100) -> int:
    """Delete the jobs that ended in one of the phases longer ago than that. Says how many."""
    retired = 0
    while True:
        async with engine.begin() as connection:
            found = len(await JobStore(connection).retire(phases, age, limit=limit))
        retired += found
        if found < limit:
            return retired


async def lease_attempts(
    connection: AsyncConnection, host: str, *, slots: int, forgotten_but: Collection[uuid.UUID] | None, ttl: timedelta
) -> list[Work]:
    """What the runner of a host is to do: what it was given before and does not know of (when `forgotten_but` lists
    what it knows), and attempts that nobody has."""
    attempts, jobs = AttemptStore(connection), JobStore(connection)
    grants = [] if forgotten_but is None else list(await attempts.regrant(host, forgotten_but, ttl=ttl))
    if slots > len(grants):
        grants += await attempts.lease(host, slots - len(grants), ttl=ttl)
    work = []
    for granted in grants:
        attempt = granted.attempt
        await jobs.begin(attempt.project, attempt.job_id)
        job = await jobs.find(attempt.project, attempt.job_id)
        assert job is not None  # its attempt names it
        work.append(Work(granted, job))
    if work:
        await leases.hint(connection, SERVICE)
    return work


async def keep_output(
    connection: AsyncConnection, project: str, attempt_id: uuid.UUID, *, fence: int, blob: Blob
) -> None:
    """Keep bytes that are stored already as an output of the attempt.

    Raises:
        AttemptNotFound, StaleFence, AttemptOver: the attempt is not the caller's any more.
    """
    attempt = await AttemptStore(connection).live(project, attempt_id, fence=fence, lock=True)
    await blobs.record(connection, project, blob)
    await blobs.link(connection, project, blob.digest, attempt.owner)


async def finish_attempt(
    connection: AsyncConnection,
    project: str,
    attempt_id: uuid.UUID,
    *,
    fence: int,
    exit_code: int | None,
    result: AttemptResult | None,
    failure: Why | None,
) -> Attempt:
    """Record how an attempt ended, once its outputs are kept.

    Raises:
        AttemptNotFound, StaleFence, AttemptOver: the attempt is not the caller's any more.
        OutputsMissing, OutputDiffers: a file that the result names was not handed over, or is another one.
    """
    attempts, jobs = AttemptStore(connection), JobStore(connection)
    found = await attempts.get(project, attempt_id)
    await jobs.find(project, found.job_id, lock=True)  # the job's row first, as everywhere
    attempt = await attempts.live(project, attempt_id, fence=fence, lock=True)
    ending = ending_of(exit_code, result, failure)
    if ending.phase is AttemptPhase.SUCCEEDED:
        assert result is not None
        await _check_outputs(connection, attempt, result)
    if not await attempts.finish(attempt, ending, exit_code=exit_code, result=result):
        raise AttemptOver(f"Attempt {attempt_id} is over.")  # pragma: no cover - its row is locked
    await jobs.wake(project, attempt.job_id)
    await leases.hint(connection, SERVICE)
    return attempt


async def _check_outputs(connection: AsyncConnection, attempt: Attempt, result: AttemptResult) -> None:
    if result.model is None:
        raise OutputsMissing("A result that succeeded has a model.")
    for file in result.model.files:
        if not await AttemptStore(connection).has_output(attempt, file.digest):
            raise OutputsMissing(f"The file {file.path[:100]!r} was not handed over.")
        blob = await blobs.find(connection, attempt.project, file.digest)
        if blob is None or blob.size != file.size:
            raise OutputDiffers(f"The file {file.path[:100]!r} has another size than the result says.")
