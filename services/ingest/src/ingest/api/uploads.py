"""Uploads: bytes that wait, for a day, for a version to be made of them."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from ingest import actions
from ingest.api.bodies import chunks_of
from ingest.api.schemas import Digest, UploadOut
from ingest.api.state import PartsDep
from kit import idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=idempotency.Route)


async def _committed() -> AsyncIterator[None]:
    """Ends when the transaction is committed, and before the answer is sent."""
    yield
    failpoint("ingest.upload.after_commit")


@router.post("", status_code=201, dependencies=[Depends(_committed, scope="function")])
@requires(Role.EDITOR, streams=True)
async def upload(
    request: Request,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    sha256: Annotated[Digest | None, Query()] = None,
) -> UploadOut:
    """Take in a stream of any kind. Its digest is its name; it is kept for 24 hours, or while a version uses it."""
    uploads = parts.uploads
    blob = await uploads.take(caller.project, chunks_of(request, limit=uploads.quota.bytes), sha256)
    async with (
        uploads.counted(caller, blob),
        idempotency.effect(request, engine, caller, blob.digest) as connection,
    ):
        await actions.record_upload(connection, caller, blob)
        failpoint("ingest.upload.before_commit")
    return UploadOut(upload=blob.digest, size=blob.size)


@router.delete("/{digest}", status_code=204)
@requires(Role.EDITOR)
async def delete_upload(digest: Annotated[Digest, Path()], caller: CallerDep, transaction: Transaction) -> None:
    """Delete an upload that waits for a version. 409 when a version uses it.

    Its bytes go some minutes later; until then the same ones are not taken again.
    """
    await actions.delete_upload(transaction, caller, digest)
