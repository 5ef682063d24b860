"""Uploads: bytes that wait, for a day, for a version to be made of them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from kit import idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine
from kit.failpoints import failpoint

from ingest.actions import record_upload
from ingest.api.bodies import check_digest, chunks_of
from ingest.api.schemas import Digest, UploadOut
from ingest.api.state import PartsDep

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])


@router.post("", status_code=201)
@requires(Role.EDITOR, streams=True)
async def upload(
    request: Request,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    sha256: Annotated[Digest | None, Query()] = None,
) -> UploadOut:
    """Take in a stream of any kind. Its digest is its name; it is kept for 24 hours, or as long as a version uses it."""
    blob = await parts.uploads.take(caller.project, chunks_of(request))
    check_digest(sha256, blob.digest)
    async with idempotency.effect(request, engine, caller, blob.digest) as connection:
        await record_upload(connection, caller, blob)
        failpoint("ingest.upload.before_commit")
    failpoint("ingest.upload.after_commit")
    return UploadOut(upload=blob.digest, size=blob.size)
