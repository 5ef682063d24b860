"""Files of models to come: bytes under their digest, kept for a day unless a version names them."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request

from kit import blobs, bodies, errors
from kit.callers import CallerDep, Role, requires
from kit.db import Engine
from kit.failpoints import failpoint
from registry.actions import take_in
from registry.api.schemas import BlobOut
from registry.api.state import PartsDep
from registry.domain.manifests import Digest

router = APIRouter(prefix="/internal/v1/blobs", include_in_schema=False)


class BodyCutOff(errors.Malformed): ...


@router.put("/{digest}")
@requires(Role.EDITOR, issuers={"trainer"}, streams=True)
async def put_blob(
    digest: Annotated[Digest, Path()], request: Request, caller: CallerDep, engine: Engine, parts: PartsDep
) -> BlobOut:
    """Take in a stream of exactly these bytes. Sent again they are there already, and are kept for longer."""
    _check_head(request, parts.file_bytes)
    blob = await take_in(parts.blobs, caller.project, digest, _chunks(request), parts.file_bytes)
    async with parts.turns.take(), engine.begin() as connection:
        await blobs.record(connection, caller.project, blob)
        failpoint("registry.blob.before_commit")
    failpoint("registry.blob.after_commit")
    return BlobOut(digest=blob.digest, size=blob.size)


def _check_head(request: Request, limit: int) -> None:
    """Refuse what need not be read to be refused."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise errors.UnsupportedMedia("Files are sent as they are, without a Content-Encoding.")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise errors.TooLarge(f"A file has {limit} bytes at most.")


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body piece by piece: it is never held whole.

    Raises:
        BodyCutOff: the client left before its end.
    """
    try:
        async for chunk in bodies.chunks(request.receive):
            yield chunk
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None
