"""Files of models to come: bytes under their digest, kept for a day unless a version names them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blobs
from kit.blobs import Blob
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from registry.actions import take_in
from registry.api import bodies
from registry.api.schemas import BlobOut, NewName
from registry.api.state import Parts, PartsDep
from registry.domain.formats import HEAD, refuse_unsafe
from registry.domain.manifests import Digest

router = APIRouter(prefix="/v1/models/{name}/blobs", tags=["models"])
internal = APIRouter(prefix="/internal/v1/blobs", include_in_schema=False)
DigestPath = Annotated[Digest, Path()]
OCTETS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@internal.put("/{digest}")
@requires(Role.EDITOR, issuers={"trainer"}, streams=True)
async def put_blob(digest: DigestPath, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep) -> BlobOut:
    """Take in a stream of exactly these bytes. Sent again they are there already, and are kept for longer."""
    bodies.check_head(request, parts.file_bytes)
    blob = await take_in(parts.blobs, caller.project, digest, bodies.chunks(request), parts.file_bytes)
    await _record(engine, parts, caller.project, blob)
    return BlobOut(digest=blob.digest, size=blob.size)


@router.put("/{digest}", status_code=201, responses={200: {"model": BlobOut}}, openapi_extra=OCTETS)
@requires(Role.EDITOR, streams=True)
async def push_blob(
    name: NewName,
    digest: DigestPath,
    request: Request,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    response: Response,
) -> BlobOut:
    """Send a file of a version to come: the body is exactly the bytes of this digest.

    201, or 200 where they were there already. They are kept for 24 hours, and for as long as a version names them.
    Pickles and their like are refused (422 `unsafe-model`).
    """
    bodies.check_head(request, parts.file_bytes)
    async with parts.uploads.one_more(engine, caller.project, digest):
        sent = _safe(bodies.chunks(request), digest)
        blob = await take_in(parts.blobs, caller.project, digest, sent, parts.file_bytes)
        new = await _record(engine, parts, caller.project, blob)
    response.status_code = 201 if new else 200
    return BlobOut(digest=blob.digest, size=blob.size)


@router.get("/{digest}")
@requires(Role.VIEWER)
async def get_blob(name: NewName, digest: DigestPath, caller: CallerDep, transaction: Transaction) -> BlobOut:
    """Whether the project has these bytes, so that they need not be sent again. 404 where it has not."""
    blob = await blobs.find(transaction, caller.project, digest)
    if blob is None:
        raise blobs.BlobNotFound(f"There are no bytes with the digest {digest}.")
    return BlobOut(digest=blob.digest, size=blob.size)


async def _record(engine: AsyncEngine, parts: Parts, project: str, blob: Blob) -> bool:
    """Say that the bytes are there. Answers whether they are new."""
    async with parts.turns.take(), engine.begin() as connection:
        new = await blobs.find(connection, project, blob.digest) is None
        await blobs.record(connection, project, blob)
        failpoint("registry.blob.before_commit")
    failpoint("registry.blob.after_commit")
    return new


async def _safe(chunks: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """The stream, whose first bytes are looked at before half a gigabyte of the rest is taken in.

    Raises:
        UnsafeModel: they are those of a file that runs code when it is loaded.
    """
    head = b""
    async for chunk in chunks:
        if len(head) < HEAD:
            head += chunk[:HEAD]
            if len(head) >= HEAD:
                refuse_unsafe(head, name)
        yield chunk
    if len(head) < HEAD:
        refuse_unsafe(head, name)
