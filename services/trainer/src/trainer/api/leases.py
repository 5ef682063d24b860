"""For runners: they pull attempts, say that they work on them, hand over what came of them, and say how they ended.

POST /internal/v1/leases                       {"host", "slots", "holding"}  ?wait=20s   → {"attempts": […]}
POST /internal/v1/leases/{attempt}/heartbeat   {"fence"}                                 → {"stop"}
POST /internal/v1/leases/{attempt}/lines       {"fence", "entries"}                      → 204
PUT  /internal/v1/leases/{attempt}/outputs/{digest}?fence=…   the bytes                  → 204
POST /internal/v1/leases/{attempt}/finish      {"fence", "exit_code", "result", "failure"}  → 204

What is said of an attempt is said in its project. 404 and 409 mean that the runner has lost it.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Collection
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query, Request
from prometheus_client import Gauge, Histogram
from pydantic import BaseModel, Field, StringConstraints

from kit import bodies, errors
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.metrics import LONG
from kit.reconcile import first
from kit.waiting import Wait
from trainer import actions
from trainer.actions import SERVICE, Work
from trainer.api.reporting import BeatOut, FencedIn, FinishIn, RunnerLinesIn
from trainer.api.state import PartsDep
from trainer.domain.attempts import AttemptResult
from trainer.domain.jobs import Reason, Why
from trainer.domain.reports import RUNNER
from trainer.store.attempts import AttemptStore
from trainer.store.reports import ReportStore

router = APIRouter(prefix="/internal/v1/leases", include_in_schema=False)
LOOK = 1.0
"""Seconds between two looks at the queue while nobody tells that there is something in it."""
QUEUED_SECONDS = Histogram("trainyard_trainer_queue_seconds", "What attempts waited for a runner.", buckets=LONG)
RUNNER_SEEN = Gauge("trainyard_trainer_runner_seen_timestamp_seconds", "When a runner last asked for work here.")
Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]


class ResultInvalid(errors.Invalid): ...


class DigestMismatch(errors.Invalid): ...


class BodyCutOff(errors.Malformed): ...


class LeaseIn(BaseModel):
    host: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    slots: Annotated[int, Field(ge=0, le=1000)]
    holding: Annotated[list[uuid.UUID], Field(max_length=1000)] = []
    """All that the host knows to have. What it was given beside that, it is given anew."""


class GrantOut(BaseModel):
    attempt: uuid.UUID
    project: str
    job: uuid.UUID
    number: int
    fence: int
    token: str
    """For the program in the job."""
    subject: str
    dataset: str
    dataset_digest: str
    spec: dict[str, Any]
    traceparent: str | None

    @classmethod
    def of(cls, work: Work) -> "GrantOut":
        attempt, job = work.granted.attempt, work.job
        assert job.pinned is not None  # an attempt is queued after that
        return cls(
            attempt=attempt.id,
            project=attempt.project,
            job=job.id,
            number=attempt.number,
            fence=attempt.fence,
            token=work.granted.token,
            subject=job.subject,
            dataset=job.pinned.reference,
            dataset_digest=job.pinned.digest,
            spec=job.spec.training.to_json(),
            traceparent=attempt.traceparent,
        )


class GrantsOut(BaseModel):
    attempts: list[GrantOut]


@router.post("")
@requires(Role.VIEWER, issuers={SERVICE})
async def lease(
    body: LeaseIn, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep, wait: Wait
) -> GrantsOut:
    """What the host is to work on; with `?wait=`, once there is something."""
    RUNNER_SEEN.set(time.time())
    loop = asyncio.get_running_loop()
    ends = loop.time() + wait.total_seconds()
    # Only at first: later on, this request may be one that its runner has given up, and know less than a newer one.
    holding: Collection[uuid.UUID] | None = body.holding
    while True:
        parts.queued.clear()
        async with engine.begin() as connection:
            work = await actions.lease_attempts(
                connection, body.host, slots=body.slots, forgotten_but=holding, ttl=parts.heartbeat_ttl
            )
            if work:
                failpoint("trainer.attempt_leased.before_commit")
        holding, left = None, ends - loop.time()
        if work or left <= 0 or parts.draining() or await request.is_disconnected():
            break
        await first(parts.queued, seconds=min(left, LOOK))
    RUNNER_SEEN.set(time.time())
    for each in work:
        if each.granted.waited is not None:
            QUEUED_SECONDS.observe(each.granted.waited)
    if work:
        failpoint("trainer.attempt_leased.after_commit")
    return GrantsOut(attempts=[GrantOut.of(each) for each in work])


@router.post("/{attempt_id}/heartbeat")
@requires(Role.VIEWER, issuers={SERVICE})
async def beat(
    attempt_id: uuid.UUID, body: FencedIn, caller: CallerDep, transaction: Transaction, parts: PartsDep
) -> BeatOut:
    stop = await AttemptStore(transaction).beat(caller.project, attempt_id, fence=body.fence, ttl=parts.heartbeat_ttl)
    return BeatOut(stop=stop)


@router.post("/{attempt_id}/lines", status_code=204)
@requires(Role.VIEWER, issuers={SERVICE})
async def add_lines(
    attempt_id: uuid.UUID,
    body: RunnerLinesIn,
    caller: CallerDep,
    transaction: Transaction,
    parts: PartsDep,
    afterwards: BackgroundTasks,
) -> None:
    attempt = await AttemptStore(transaction).live(caller.project, attempt_id, fence=body.fence, lock=True)
    await ReportStore(transaction).add_lines(attempt, RUNNER, [entry.line() for entry in body.entries])
    afterwards.add_task(parts.live.tell, str(attempt.job_id))


@router.put("/{attempt_id}/outputs/{digest}", status_code=204)
@requires(Role.VIEWER, issuers={SERVICE}, streams=True)
async def put_output(
    attempt_id: uuid.UUID,
    digest: Digest,
    fence: Annotated[int, Query()],
    request: Request,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
) -> None:
    """Keep a file of the attempt. Sending it again is sending it."""
    async with engine.begin() as connection:
        await AttemptStore(connection).live(caller.project, attempt_id, fence=fence)
    staged = await parts.blobs.stage(_chunks_of(request), parts.output_bytes)
    if staged.digest != digest:
        await parts.blobs.discard(staged)
        raise DigestMismatch(f"The body's digest is {staged.digest}, not {digest}.")
    blob = await parts.blobs.publish(caller.project, staged)
    failpoint("trainer.output_stored.before_commit")
    async with engine.begin() as connection:
        await actions.keep_output(connection, caller.project, attempt_id, fence=fence, blob=blob)
    failpoint("trainer.output_stored.after_commit")


@router.post("/{attempt_id}/finish", status_code=204)
@requires(Role.VIEWER, issuers={SERVICE})
async def finish(attempt_id: uuid.UUID, body: FinishIn, caller: CallerDep, engine: Engine) -> None:
    """Record how the attempt ended. Its token is dead then, and nothing of it is changed any more."""
    result, failure = _result_of(body.result), body.failure
    async with engine.begin() as connection:
        await actions.finish_attempt(
            connection,
            caller.project,
            attempt_id,
            fence=body.fence,
            exit_code=body.exit_code,
            result=result,
            failure=None if failure is None else Why(Reason(failure.reason), failure.message, failure.hint),
        )
        failpoint("trainer.attempt_finished.before_commit")
    failpoint("trainer.attempt_finished.after_commit")


def _result_of(document: dict[str, Any] | None) -> AttemptResult | None:
    try:
        return None if document is None else AttemptResult.from_json(document)
    except (KeyError, TypeError, ValueError):
        raise ResultInvalid("This is no result of an attempt.") from None


async def _chunks_of(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in bodies.chunks(request.receive):
            yield chunk
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None
