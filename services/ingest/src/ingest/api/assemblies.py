"""For services that make datasets of datasets: rows to work on, and parts that become one version."""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ingest.actions import Assembled
from ingest.api.bodies import chunks_of
from ingest.api.schemas import Digest, Name, UploadOut, VersionOut
from ingest.api.state import PartsDep
from ingest.api.versions import contents_of
from ingest.domain.reports import Compression, Format
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import ShardNotFound, Source
from kit.callers import CallerDep, Role, requires
from kit.db import Engine

MAKERS = ("serving",)
"""Who may make versions of parts."""
MANY_ROWS = 1 << 20
MANY_PARTS = 10_000
NDJSON = "application/x-ndjson"

router = APIRouter(prefix="/internal/v1", include_in_schema=False)


class AssemblyIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dataset: Name
    parts: Annotated[list[Digest], Field(min_length=1, max_length=MANY_PARTS)]
    """In the order of the rows."""
    format: Format
    compression: Compression | None = None
    settings: DatasetSettings
    """Of this version, and of the dataset where there is none yet."""
    lineage: Annotated[dict[str, Any], Field(min_length=1, max_length=20)]


@router.get("/datasets/{name}/versions/{reference}/shards/{digest}/rows", response_class=StreamingResponse)
@requires(Role.VIEWER, issuers=MAKERS)
async def stream_rows(
    name: str,
    reference: str,
    digest: str,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=1, le=MANY_ROWS)] = MANY_ROWS,
) -> StreamingResponse:
    """Rows of a shard from `start` on, as lines of JSON: the same values that `…/rows` shows."""
    contents = await contents_of(engine, caller, name, reference)
    if digest not in {shard.digest for shard in contents.shards}:
        raise ShardNotFound(f"Version {reference[:100]} of {name[:100]} has no shard {digest[:100]}.")
    lines = parts.pages.lines(caller.project, digest, start=start, count=count)
    # What is wrong with the shard is known before its first row, and is then a problem document.
    first = await anext(lines, b"")
    return StreamingResponse(_behind(first, lines), media_type=NDJSON)


async def _behind(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for lines in rest:
        yield lines


@router.post("/assemblies/{assembly}/parts", status_code=201)
@requires(Role.EDITOR, issuers=MAKERS, streams=True)
async def take_part(assembly: uuid.UUID, request: Request, caller: CallerDep, parts: PartsDep) -> UploadOut:
    """Keep a part for the version to come. The same bytes again are the same part."""
    limit = parts.uploads.quota.bytes
    blob = await parts.assemblies.take(caller.project, assembly, chunks_of(request, limit=limit))
    return UploadOut(upload=blob.digest, size=blob.size)


@router.put("/assemblies/{assembly}")
@requires(Role.EDITOR, issuers=MAKERS)
async def make_version(assembly: uuid.UUID, body: AssemblyIn, caller: CallerDep, parts: PartsDep) -> VersionOut:
    """The version of the parts, one behind the other. Asked for again, it is the same one."""
    wanted = Assembled(
        dataset=body.dataset,
        parts=body.parts,
        settings=body.settings,
        source=Source("", 0, body.format, body.compression),
        lineage=body.lineage,
    )
    return VersionOut.of(await parts.assemblies.make(caller, assembly, wanted))


@router.delete("/assemblies/{assembly}", status_code=204)
@requires(Role.EDITOR, issuers=MAKERS)
async def give_up(assembly: uuid.UUID, caller: CallerDep, parts: PartsDep) -> None:
    """No version is to be made of the parts any more. One that was made stays."""
    await parts.assemblies.give_up(caller.project, assembly)
