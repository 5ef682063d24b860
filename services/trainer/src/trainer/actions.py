"""What a request does that needs more than one store: jobs and their end, and what runners and programs report."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import audit, blobs, leases
from kit.blobs import Blob
from kit.callers import Caller
from kit.ids import uuid7
from trainer import bundling, secrecy
from trainer.domain import searching, specs
from trainer.domain.attempts import AttemptResult
from trainer.domain.jobs import FINAL, Job, JobSpec, Phase, Why
from trainer.domain.leased import (
    Attempt,
    AttemptOver,
    AttemptPhase,
    OutputDiffers,
    OutputsMissing,
    ending_of,
    made_way,
    said_last,
)
from trainer.domain.rooms import Room
from trainer.domain.sharing import refuse_impossible
from trainer.domain.sweeps import Sweep, SweepSpec
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.bundles import BundleStore
from trainer.store.jobs import JobStore
from trainer.store.shares import ShareStore
from trainer.store.sweeps import SWEEPS, SweepStore

SERVICE = "trainer"
RUNNERS = "trainer_runners"
"""The channel on which runners are told that an attempt waits for one."""
NOUN, SWEEP = "job", "sweep"


@dataclass(frozen=True)
class Work:
    """An attempt that a runner has from now on, and its job."""

    granted: Granted
    job: Job


async def create_job(connection: AsyncConnection, caller: Caller, spec: JobSpec) -> Job:
    """
    Raises:
        JobInvalid, EstimatorInvalid: it cannot work, whatever the data are.
        BundleNotFound: there is no such bundle.
        SecretMissing: it names a secret that its project does not have.
        QuotaExceeded, PriorityTooHigh: its project can never have that.
    """
    specs.check(spec)
    await secrecy.check(connection, caller.project, spec)
    refuse_impossible(
        (await ShareStore(connection).standing(caller.project, if_needed=True)).quota, spec.asks, spec.priority
    )
    job = await add_job(connection, project=caller.project, subject=caller.subject, spec=spec)
    await audit.record(connection, caller, "create", NOUN, str(job.id), {"dataset": spec.dataset, "model": spec.model})
    await leases.hint(connection, SERVICE)
    return job


async def add_job(connection: AsyncConnection, *, project: str, subject: str, spec: JobSpec) -> Job:
    """A new job that was checked before, with the bundle that it runs held for it.

    Raises:
        BundleNotFound: there is no such bundle.
        JobInvalid: it has no such file.
    """
    job = await JobStore(connection).add(uuid7(), project=project, subject=subject, spec=spec)
    if spec.bundle is not None:
        await bundling.use(connection, project, job, spec.bundle)
    return job


async def position_of(connection: AsyncConnection, job: Job) -> int | None:
    """Where the job is in the queue that it waits in; None: it waits in none."""
    if job.phase in FINAL:
        return None
    shares = ShareStore(connection)
    if await shares.is_waiting(job):
        return 1 + await shares.ahead(job)
    return await AttemptStore(connection).position(job)


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


async def create_sweep(connection: AsyncConnection, caller: Caller, spec: SweepSpec, asked: Mapping[str, Any]) -> Sweep:
    """
    Raises:
        SweepInvalid, JobInvalid, EstimatorInvalid: it cannot work, whatever the data are.
        BundleNotFound: there is no such bundle.
        QuotaExceeded, PriorityTooHigh: its project can never have one of its jobs.
    """
    searching.check(spec)
    quota = (await ShareStore(connection).standing(caller.project)).quota
    refuse_impossible(quota, spec.job.asks, spec.job.priority)
    if spec.job.bundle is not None:
        await BundleStore(connection).use(caller.project, spec.job.bundle.bundle)
    store = SweepStore(connection)
    sweep = await store.add(uuid7(), project=caller.project, subject=caller.subject, spec=spec, asked=asked)
    told = {"dataset": spec.job.dataset, "model": spec.model, "trials": spec.budget.trials}
    await audit.record(connection, caller, "create", SWEEP, str(sweep.id), told)
    await leases.hint(connection, SWEEPS)
    return sweep


async def cancel_sweep(connection: AsyncConnection, caller: Caller, sweep_id: uuid.UUID) -> Sweep:
    """
    Raises:
        SweepFinished: too late.
        SweepNotFound: there is none.
    """
    sweep = await SweepStore(connection).request_cancel(caller.project, sweep_id)
    await audit.record(connection, caller, "cancel", SWEEP, str(sweep_id), {})
    await leases.hint(connection, SWEEPS)
    return sweep


async def delete_sweep(connection: AsyncConnection, caller: Caller, sweep_id: uuid.UUID) -> None:
    """
    Raises:
        SweepRunning: it has not ended.
        SweepNotFound: there is none.
    """
    await SweepStore(connection).remove(caller.project, sweep_id)
    await audit.record(connection, caller, "delete", SWEEP, str(sweep_id), {})


async def retire_sweeps(engine: AsyncEngine, age: timedelta) -> None:
    """Forget the sweeps that ended longer ago than that."""
    async with engine.begin() as connection:
        await SweepStore(connection).retire(age)


async def lease_attempts(
    connection: AsyncConnection,
    host: str,
    *,
    slots: int,
    forgotten_but: Collection[uuid.UUID] | None,
    ttl: timedelta,
    room: Room | None = None,
) -> list[Work]:
    """What the runner of a host is to do: what it was given before and does not know of (when `forgotten_but` lists
    what it knows), and attempts that nobody has."""
    attempts, jobs = AttemptStore(connection), JobStore(connection)
    grants = [] if forgotten_but is None else list(await attempts.regrant(host, forgotten_but, ttl=ttl))
    if slots > len(grants):
        grants += await attempts.lease(host, slots - len(grants), ttl=ttl, room=room)
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
    job = await jobs.find(project, found.job_id, lock=True)  # the job's row first, as everywhere
    attempt = await attempts.live(project, attempt_id, fence=fence, lock=True)
    result = said_last(attempt, result)
    ending = ending_of(exit_code, result, failure)
    if attempt.preempted_for is not None:
        ending = made_way(ending)
    if ending.phase is AttemptPhase.SUCCEEDED:
        assert result is not None
        await _check_outputs(connection, attempt, result, is_bundle=job is not None and job.spec.bundle is not None)
    if not await attempts.finish(attempt, ending, exit_code=exit_code, result=result):
        raise AttemptOver(f"Attempt {attempt_id} is over.")  # pragma: no cover - its row is locked
    await jobs.wake(project, attempt.job_id)
    await leases.hint(connection, SERVICE)
    return attempt


async def _check_outputs(
    connection: AsyncConnection, attempt: Attempt, result: AttemptResult, *, is_bundle: bool
) -> None:
    if result.model is None:
        if is_bundle:
            return  # it may do something else
        raise OutputsMissing("A result that succeeded has a model.")
    for file in result.model.files:
        if not await AttemptStore(connection).has_output(attempt, file.digest):
            raise OutputsMissing(f"The file {file.path[:100]!r} was not handed over.")
        blob = await blobs.find(connection, attempt.project, file.digest)
        if blob is None or blob.size != file.size:
            raise OutputDiffers(f"The file {file.path[:100]!r} has another size than the result says.")
