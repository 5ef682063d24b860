"""Bring every job to its end: look at it and its newest attempt, do the one next thing, record it."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_never

from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import blobs, errors, events, leases, tracing
from kit.blobs import BlobStore
from kit.clients import Principal
from kit.db import NOW
from kit.failpoints import failpoint
from kit.leases import LeaseLost
from kit.roles import Role
from trainer.actions import RUNNERS, SERVICE
from trainer.clients.ingest import FAILED, IngestClient
from trainer.clients.registry import RegistryClient
from trainer.domain import steps
from trainer.domain.jobs import Job, Phase, Reason, Why
from trainer.domain.leased import Attempt
from trainer.domain.manifests import event_of, manifest_of
from trainer.domain.specs import DatasetReference, missing_columns
from trainer.domain.steps import Settle, Sight, next_step
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.reports import ReportStore
from trainer.store.tables import jobs

log = logging.getLogger(__name__)
TTL = timedelta(seconds=10)
"""Of a job, by a replica: what a kill in the middle costs. The registry may take longer; then the lease is kept."""
NOW_DUE = timedelta(0)
SOON, LATER = timedelta(seconds=1), timedelta(seconds=10)
# A neighbour that is away, busy, or does not know our key yet: none of this says anything about the job.
PASSING = (errors.Unavailable, errors.TooMany, errors.Unauthenticated)
WAITING = Why(Reason.WAITING_FOR_DATASET, "The dataset version is not ready yet.")
QUEUED = Why(Reason.WAITING_FOR_RUNNER, "The job waits for a runner.", "Runners: python -m trainer runner")
REGISTERING = Why(Reason.REGISTERING, "The model is being registered.")
GONE_HINT = "List the versions of the dataset; ingest one if there is none."
REFUSED_HINT = "The training itself went well; run the job again once the registry takes such a model."


SETTLED = Counter("trainyard_trainer_jobs_total", "Jobs that ended.", ["phase", "reason"])
QUEUE_AGE = Gauge("trainyard_trainer_queue_age_seconds", "What the attempt that waits longest has waited by now.")


class Reconciler:
    """What every replica does with a job that it has leased."""

    def __init__(
        self,
        engine: AsyncEngine,
        store: BlobStore,
        ingest: IngestClient,
        registry: RegistryClient,
        *,
        ttl: timedelta = TTL,
    ) -> None:
        self._engine = engine
        self._store = store
        self._ingest = ingest
        self._registry = registry
        self._ttl = ttl

    async def reconcile(self, lease: leases.Lease) -> None:
        seen = await self._sight(lease)
        if seen is None:
            return  # forgotten since
        step = next_step(seen)
        tracing.note(step=type(step).__name__.lower())
        if isinstance(step, steps.Wait):
            tracing.skip()
        log.info("reconciling", extra={"job": str(lease.id), "step": type(step).__name__, "fence": lease.fence})
        try:
            await self._act(lease, seen, step)
        except errors.Error as exc:
            await self._postpone(lease, seen.job, step, exc)

    async def _postpone(self, lease: leases.Lease, job: Job, step: steps.Step, exc: errors.Error) -> None:
        """Whatever a neighbour said that nobody expected: it is shown, and asked again."""
        passing = isinstance(exc, PASSING)
        log.log(
            logging.INFO if passing else logging.ERROR, "postponed", extra={"job": str(job.id), "error": exc.detail}
        )
        why = None if isinstance(step, steps.Remove) else Why(job.why.reason, exc.detail)
        due_in = exc.retry_after or (SOON if passing else LATER)
        async with self._engine.begin() as connection:
            await JobStore(connection).record(lease, job, due_in=due_in, why=why)

    async def _sight(self, lease: leases.Lease) -> Sight | None:
        async with self._engine.begin() as connection:
            job = await JobStore(connection).find(lease.project, lease.id)
            if job is None:
                return None
            attempts = AttemptStore(connection)
            newest, failures = await attempts.newest(job), await attempts.failures(job)
            return Sight(job, newest, failures, await JobStore(connection).now())

    async def _act(self, lease: leases.Lease, seen: Sight, step: steps.Step) -> None:
        job, attempt = seen.job, seen.attempt
        match step:
            case steps.Pin():
                await self._pin(lease, job)
            case steps.Queue(number=number):
                await self._queue(lease, job, number)
            case steps.Register():
                assert attempt is not None
                await self._register(lease, job, attempt)
            case steps.Settle():
                await self._settle(lease, job, attempt, step)
            case steps.Remove(last=last):
                await self._remove(lease, job, last=last)
            case steps.Withdraw() | steps.Stop() | steps.Suspect() | steps.Lose() | steps.Commit() | steps.Wait():
                async with self._engine.begin() as connection:
                    await _record(connection, lease, job, attempt, step)
            case _:
                assert_never(step)

    async def _pin(self, lease: leases.Lease, job: Job) -> None:
        try:
            seen = await self._ingest.version(_principal(job), DatasetReference.parse(job.spec.dataset))
        except errors.NotFound as exc:
            await self._fail(lease, job, Why(Reason.DATASET_NOT_FOUND, exc.detail, GONE_HINT))
            return
        if seen.phase == FAILED:
            why = f"The dataset version has failed: {seen.message}"
            await self._fail(lease, job, Why(Reason.DATASET_FAILED, why, "Its rejects say more."))
        elif seen.pinned is None:
            async with self._engine.begin() as connection:
                await JobStore(connection).record(lease, job, due_in=SOON, why=WAITING)
        elif missing := missing_columns(job.spec, seen.columns):
            said = "; ".join(f"{place['pointer']}: {place['detail']}" for place in missing)
            await self._fail(lease, job, Why(Reason.COLUMN_NOT_FOUND, said, "Name columns that the dataset has."))
        else:
            async with self._engine.begin() as connection:
                await _go_on(connection, lease, job, pinned=seen.pinned)

    async def _queue(self, lease: leases.Lease, job: Job, number: int) -> None:
        assert job.pinned is not None
        try:
            await self._ingest.hold(_principal(job), job.pinned, job.holder)
        except errors.NotFound as exc:
            await self._fail(lease, job, Why(Reason.DATASET_NOT_FOUND, exc.detail, GONE_HINT))
            return
        failpoint("trainer.attempt_queued.before_commit")
        async with self._engine.begin() as connection:
            if await JobStore(connection).record(lease, job, due_in=steps.LOOK, why=QUEUED, attempt=number):
                await AttemptStore(connection).queue(job, number)
                await leases.hint(connection, RUNNERS)
        failpoint("trainer.attempt_queued.after_commit")

    async def _register(self, lease: leases.Lease, job: Job, attempt: Attempt) -> None:
        """Whatever is done here twice is the same model version: its digest is of what it is made of."""
        assert job.spec.model is not None
        model: dict[str, Any] | None = None
        refused: errors.Error | None = None
        failpoint("trainer.register.before")
        try:
            async with leases.kept(self._engine, jobs, lease, ttl=self._ttl):
                model = await self._make_version(job, job.spec.model, manifest_of(job, attempt))
        except LeaseLost:
            log.warning("fenced", extra={"job": str(job.id), "fence": lease.fence})
        except errors.Error as exc:
            refused = exc
        failpoint("trainer.register.after")
        if refused is not None and (isinstance(refused, PASSING) or _theirs(refused)):
            raise refused
        if refused is not None:
            why = Why(Reason.REGISTRATION_REFUSED, f"The model was not registered: {refused.detail}", REFUSED_HINT)
            await self._settle(lease, job, attempt, Settle(Phase.FAILED, why))
        elif model is not None:
            await self._settle(lease, job, attempt, Settle(Phase.SUCCEEDED), model)

    async def _make_version(self, job: Job, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
        principal = _principal(job)
        for file in manifest["formats"]:
            chunks = self._store.stream(job.project, file["digest"])
            await self._registry.put_blob(principal, file["digest"], file["size"], chunks)
        return await self._registry.put_version(principal, name, manifest)

    async def _fail(self, lease: leases.Lease, job: Job, why: Why) -> None:
        await self._settle(lease, job, None, Settle(Phase.FAILED, why))

    async def _settle(
        self,
        lease: leases.Lease,
        job: Job,
        attempt: Attempt | None,
        step: Settle,
        model: dict[str, Any] | None = None,
    ) -> None:
        result = attempt.result if attempt is not None and step.phase is Phase.SUCCEEDED else None
        metrics = None if result is None else result.metrics
        failpoint("trainer.job_settled.before_commit")
        async with self._engine.begin() as connection:
            settled = await JobStore(connection).settle(
                lease, job, phase=step.phase, why=step.why, metrics=metrics, model=model
            )
            if settled:
                data = event_of(job, step.phase, step.why, attempt, model)
                await events.emit(connection, job.project, f"job.{step.phase}", str(job.id), data)
                if model is not None:  # the registry has its own of what succeeded; the rest is of no use
                    for each in await AttemptStore(connection).of(job):
                        await blobs.unlink(connection, job.project, each.owner)
        failpoint("trainer.job_settled.after_commit")
        if settled:
            SETTLED.labels(step.phase, step.why.reason).inc()
            log.info("settled", extra={"job": str(job.id), "phase": step.phase, "reason": step.why.reason})

    async def _remove(self, lease: leases.Lease, job: Job, *, last: bool) -> None:
        if job.pinned is not None:
            await self._ingest.release(_principal(job), job.pinned, job.holder)
        async with self._engine.begin() as connection:
            store = JobStore(connection)
            # Twice, minutes apart: what a replica that stood still did in between goes too.
            if not last and not await store.record(lease, job, due_in=steps.SWEEP, removed_at=NOW):
                return
            await ReportStore(connection).remove(job)
            for attempt in await AttemptStore(connection).remove(job):
                await blobs.unlink(connection, job.project, attempt.owner)
            if last:
                await store.remove(lease, job)


async def _record(
    connection: AsyncConnection, lease: leases.Lease, job: Job, attempt: Attempt | None, step: steps.Step
) -> None:
    """The steps that are a change in our own tables and nothing else. The job's row is locked first, as everywhere."""
    store, attempts = JobStore(connection), AttemptStore(connection)
    match step:
        case steps.Wait(timeout=timeout, why=why):
            await store.record(lease, job, due_in=timeout, why=why)
        case steps.Commit():
            await _go_on(connection, lease, job, registering=True, why=REGISTERING)
        case steps.Withdraw():
            if attempt is not None and await _go_on(connection, lease, job):
                await attempts.withdraw(attempt)
        case steps.Stop():
            if attempt is not None and await store.record(lease, job, due_in=steps.LOOK):
                await attempts.request_stop(attempt)
        case steps.Suspect():
            if attempt is not None and await store.record(lease, job, due_in=steps.GRACE):
                await attempts.suspect(attempt)
        case steps.Lose():
            if attempt is not None and await _go_on(connection, lease, job):
                await attempts.lose(attempt)


async def _go_on(connection: AsyncConnection, lease: leases.Lease, job: Job, **values: Any) -> bool:
    """There is a next step at once. Every replica is told: the one that did the last step need not do all of them."""
    recorded = await JobStore(connection).record(lease, job, due_in=NOW_DUE, **values)
    if recorded:
        await leases.hint(connection, SERVICE)
    return recorded


async def wake_waiting(connection: AsyncConnection, found: Sequence[events.Event]) -> None:
    """Jobs that wait for a dataset version are looked at when ingest says that it has ended."""
    for event in found:
        if event.kind in ("dataset.version.ready", "dataset.version.failed"):
            await JobStore(connection).wake_waiting(event.project, str(event.data.get("dataset")))


def _principal(job: Job) -> Principal:
    return Principal(job.project, Role.EDITOR, job.subject)


def _theirs(refused: errors.Error) -> bool:
    """Whether it is the registry's bytes that are damaged, and not the output that we have: it is sent again then."""
    return isinstance(refused, errors.Corrupt) and "upstream_code" in refused.extra


async def show_queue(engine: AsyncEngine) -> None:
    """How long the queue makes wait. What is granted in the end says so too late for those that never are."""
    async with engine.begin() as connection:
        QUEUE_AGE.set(await AttemptStore(connection).oldest_queued())
