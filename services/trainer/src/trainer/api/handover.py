"""For pods of a cluster: with their attempt's token they read what they are to do, and hand over what came of it.

GET /internal/v1/attempts/{attempt}/work               → {"job", "number", "spec", "dataset", …, "shards", "columns"}
GET /internal/v1/attempts/{attempt}/inputs/{digest}    → a shard of the dataset version, from ingest
GET /internal/v1/attempts/{attempt}/bundle             → the archive that the job runs
PUT /internal/v1/attempts/{attempt}/outputs/{digest}   the bytes → 204
PUT /internal/v1/attempts/{attempt}/result             `result.json` → 204

No other dataset and no other bundle can be read with it. A result is not an end: that is what the runner says, who sees
the pods, and the result counts then, whatever they died of afterwards.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from kit import errors
from kit.callers import CallerDep, Role, requires
from kit.clients import Principal
from kit.db import Engine, Transaction
from trainer import actions
from trainer.api.attempts import ISSUER, OwnAttempt
from trainer.api.leases import Digest, DigestMismatch, chunks_of, result_of
from trainer.api.state import PartsDep
from trainer.clients.ingest import IngestClient
from trainer.domain.bundles import BundleNotFound
from trainer.domain.jobs import Job
from trainer.domain.leased import Attempt, AttemptNotFound
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore

router = APIRouter(prefix="/internal/v1/attempts/{attempt_id}", include_in_schema=False)


class InputNotFound(errors.NotFound): ...


class ShardOut(BaseModel):
    digest: str
    rows: int
    size: int
    split: str


class WorkOut(BaseModel):
    job: uuid.UUID
    number: int
    project: str
    subject: str
    spec: dict[str, Any]
    dataset: str | None
    dataset_digest: str | None
    shards: list[ShardOut]
    columns: list[dict[str, str]]
    secrets: dict[str, str]


@router.get("/work")
@requires(Role.VIEWER, issuers={ISSUER})
async def get_work(
    attempt_id: uuid.UUID, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep
) -> WorkOut:
    """All that the pods are to do, and to read."""
    attempt = _own(attempt_id, request)
    job, ingest = await _job_of(attempt, engine), _ingest(parts.ingest)
    shards, columns = list[ShardOut](), list[dict[str, str]]()
    async with engine.begin() as connection:
        secrets = dict(await parts.secrecy.told_to(connection, attempt))
    if job.pinned is not None:
        shards = [ShardOut(**vars(each)) for each in await ingest.shards(_principal(job), job.pinned)]
        columns = [dict(each) for each in await ingest.columns(_principal(job), job.pinned)]
    return WorkOut(
        job=job.id,
        number=attempt.number,
        project=job.project,
        subject=job.subject,
        spec=job.spec.work,
        dataset=None if job.pinned is None else job.pinned.reference,
        dataset_digest=None if job.pinned is None else job.pinned.digest,
        shards=shards,
        columns=columns,
        secrets=secrets,
    )


@router.get("/inputs/{digest}", response_class=StreamingResponse)
@requires(Role.VIEWER, issuers={ISSUER})
async def get_input(
    attempt_id: uuid.UUID, digest: Digest, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep
) -> StreamingResponse:
    """A shard of the job's dataset version. Whoever reads it verifies it."""
    job, ingest = await _job_of(_own(attempt_id, request), engine), _ingest(parts.ingest)
    if job.pinned is None:
        raise InputNotFound("The job of this attempt reads no dataset.")
    opened = ingest.open(_principal(job), job.pinned, digest)
    chunks = await opened.__aenter__()  # what ingest refuses is said before the answer begins

    async def pass_on() -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await opened.__aexit__(None, None, None)

    return StreamingResponse(pass_on(), media_type="application/octet-stream")


@router.get("/bundle", response_class=StreamingResponse)
@requires(Role.VIEWER, issuers={ISSUER})
async def get_bundle(
    attempt_id: uuid.UUID, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep
) -> StreamingResponse:
    """The archive that the attempt's job runs."""
    job = await _job_of(_own(attempt_id, request), engine)
    if job.spec.bundle is None:
        raise BundleNotFound("The job of this attempt runs no bundle.")
    chunks = parts.blobs.stream(job.project, job.spec.bundle.bundle)
    return StreamingResponse(chunks, media_type="application/octet-stream")


@router.put("/outputs/{digest}", status_code=204)
@requires(Role.VIEWER, issuers={ISSUER}, streams=True)
async def put_output(
    attempt_id: uuid.UUID, digest: Digest, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep
) -> None:
    """Keep a file of the attempt. Sending it again is sending it."""
    attempt = _own(attempt_id, request)
    staged = await parts.blobs.stage(chunks_of(request), parts.output_bytes)
    if staged.digest != digest:
        await parts.blobs.discard(staged)
        raise DigestMismatch(f"The body's digest is {staged.digest}, not {digest}.")
    blob = await parts.blobs.publish(caller.project, staged)
    async with engine.begin() as connection:
        await actions.keep_output(connection, caller.project, attempt.id, fence=attempt.fence, blob=blob)


@router.put("/result", status_code=204)
@requires(Role.VIEWER, issuers={ISSUER})
async def put_result(
    body: dict[str, Any], caller: CallerDep, attempt: OwnAttempt, transaction: Transaction, parts: PartsDep
) -> None:
    """Keep what the program says of its end. The last word counts."""
    result = result_of(body)
    assert result is not None
    redactor = await parts.secrecy.redactor(transaction, attempt)
    await AttemptStore(transaction).note_result(attempt, replace(result, message=redactor.redact(result.message)))


def _own(attempt_id: uuid.UUID, request: Request) -> Attempt:
    """The attempt of the token; what is written below is fenced by itself."""
    attempt: Attempt = request.state.attempt
    if attempt.id != attempt_id:
        raise AttemptNotFound(f"There is no attempt {attempt_id}.")
    return attempt


async def _job_of(attempt: Attempt, engine: Engine) -> Job:
    async with engine.begin() as connection:
        job = await JobStore(connection).find(attempt.project, attempt.job_id)
    assert job is not None  # its attempt names it
    return job


def _ingest(client: IngestClient | None) -> IngestClient:
    assert client is not None  # as long as the application runs
    return client


def _principal(job: Job) -> Principal:
    return Principal(job.project, Role.VIEWER, job.subject)
