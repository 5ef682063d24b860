"""Bundles of code: an archive under its digest, for jobs that run it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, StringConstraints

from kit import bodies, errors
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from trainer import bundling
from trainer.api.state import PartsDep
from trainer.domain.bundles import MAX_BYTES, Bundle
from trainer.store.bundles import BundleStore

router = APIRouter(prefix="/v1/bundles", tags=["jobs"])
Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$"), Path()]
ARCHIVE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("application/gzip", "application/zip")
        },
    }
}


class BodyCutOff(errors.Malformed): ...


class BundleOut(BaseModel):
    digest: str
    size: int
    files: int

    @classmethod
    def of(cls, bundle: Bundle) -> "BundleOut":
        return cls(digest=bundle.digest, size=bundle.size, files=bundle.files)


@router.put("/{digest}", openapi_extra=ARCHIVE)
@requires(Role.EDITOR, streams=True)
async def put_bundle(digest: Digest, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep) -> BundleOut:
    """Send an archive (tar.gz or zip) whose SHA-256 this is: 64 MiB at most, 10,000 files, 512 MiB when unpacked.

    Its members are plain files and folders; a link, a device, a path that leads elsewhere, and two paths that some disk
    takes for one are refused (422 `bundle-invalid`). Sent again it is there already. A bundle that no job has used for
    30 days goes.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > MAX_BYTES:
        raise errors.TooLarge(f"A bundle has {MAX_BYTES >> 20} MiB at most.")
    async with parts.looks:
        return BundleOut.of(await bundling.take_in(engine, parts.blobs, caller, digest, _chunks_of(request)))


@router.get("/{digest}")
@requires(Role.VIEWER)
async def get_bundle(digest: Digest, caller: CallerDep, transaction: Transaction) -> BundleOut:
    """Whether it is there, so that it need not be sent again."""
    return BundleOut.of(await BundleStore(transaction).get(caller.project, digest))


async def _chunks_of(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in bodies.chunks(request.receive):
            yield chunk
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None
