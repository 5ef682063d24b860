"""Versions of a dataset: made of an upload or of a body, and then read."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import actions
from ingest.api.bodies import JSON, chunks_of, compression_of, format_of, json_of, media_of
from ingest.api.schemas import Page, RejectOut, Row, ShardOut, ShardsOut, VersionIn, VersionOut
from ingest.api.state import PartsDep
from ingest.domain.settings import ColumnSpec
from ingest.domain.splits import Side
from ingest.domain.versions import (
    FINAL,
    Contents,
    ShardNotFound,
    Source,
    Version,
    VersionNotReady,
    numbered,
    reference_of,
)
from ingest.store.datasets import DatasetStore
from ingest.store.versions import VersionStore
from kit import idempotency
from kit.blobs import Blob
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.downloads import DownloadsDep, Stored
from kit.failpoints import failpoint
from kit.links import Lifetime, LinkOut, LinksDep
from kit.paging import PageDep, number_of, page_of
from kit.waiting import Wait, until

router = APIRouter(prefix="/v1/datasets/{name}/versions", tags=["versions"], route_class=idempotency.Route)

MANY = 1 << 40
"""Rows of a file that does not say how many it has: more than any."""


async def _committed() -> AsyncIterator[None]:
    """Ends when the transaction is committed, and before the answer is sent."""
    yield
    failpoint("ingest.version.after_commit")


@router.post("", status_code=202, dependencies=[Depends(_committed, scope="function")])
@requires(Role.EDITOR, streams=True)
async def create_version(
    name: str, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep, response: Response
) -> VersionOut:
    """Make a version of a body (CSV, NDJSON or Parquet, perhaps compressed) or, with JSON, of an upload.

    The same bytes and settings are the same version: the answer is then the one that exists.
    """
    if media_of(request) == JSON:
        made = await _of_upload(name, request, caller, engine, parts)
    else:
        made = await _of_body(name, request, caller, engine, parts)
    response.headers["Location"] = f"/v1/datasets/{name}/versions/{made.version.number}"
    return VersionOut.of(made.version, reused=made.reused)


async def _of_upload(name: str, request: Request, caller: Caller, engine: AsyncEngine, parts: PartsDep) -> actions.Made:
    wanted = await json_of(request, VersionIn)
    source = Source(wanted.upload, 0, wanted.format, wanted.compression)
    return await _make(name, request, caller, engine, parts, source, None)


async def _of_body(name: str, request: Request, caller: Caller, engine: AsyncEngine, parts: PartsDep) -> actions.Made:
    format_, compression = format_of(request), compression_of(request)
    chunks = chunks_of(request, limit=parts.uploads.quota.bytes)
    async with engine.begin() as connection:
        # Before gigabytes come for a dataset that is not there.
        await DatasetStore(connection).get(caller.project, name)
    blob = await parts.uploads.take(caller.project, chunks)
    source = Source(blob.digest, blob.size, format_, compression)
    return await _make(name, request, caller, engine, parts, source, blob)


async def _make(
    name: str,
    request: Request,
    caller: Caller,
    engine: AsyncEngine,
    parts: PartsDep,
    source: Source,
    blob: Blob | None,
) -> actions.Made:
    fingerprint = f"{name} {source.digest} {source.format} {source.compression}"
    async with (
        parts.uploads.counted(caller, blob),
        idempotency.effect(request, engine, caller, fingerprint) as connection,
    ):
        if blob is not None:
            await actions.record_upload(connection, caller, blob)
        made = await actions.make_version(connection, caller, name, source)
        failpoint("ingest.version.before_commit")
    return made


@router.get("")
@requires(Role.VIEWER)
async def list_versions(name: str, caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[VersionOut]:
    """The newest first."""
    await DatasetStore(transaction).get(caller.project, name)
    before = number_of(page.after)
    found = await VersionStore(transaction).page(caller.project, name, before=before, limit=page.limit)
    items, token = page_of(found, page, key=lambda version: str(version.number))
    return Page(items=[VersionOut.of(version) for version in items], next_page_token=token)


@router.get("/{reference}")
@requires(Role.VIEWER)
async def get_version(name: str, reference: str, caller: CallerDep, engine: Engine, wait: Wait) -> VersionOut:
    """`reference` is a number, `latest` (the newest that is ready) or a digest."""
    wanted = reference_of(reference)

    async def read() -> Version:
        async with engine.begin() as connection:
            return await VersionStore(connection).get(caller.project, name, wanted)

    return VersionOut.of(await until(read, lambda version: version.phase in FINAL, wait))


@router.delete("/{reference}", status_code=204)
@requires(Role.EDITOR)
async def delete_version(name: str, reference: str, caller: CallerDep, transaction: Transaction) -> None:
    """Delete a version. 409 while somebody uses it. Its number is never given again.

    `reference` is the number, so that a request sent again deletes nothing else.
    """
    await actions.delete_version(transaction, caller, name, numbered(reference))


@router.get("/{reference}/profile")
@requires(Role.VIEWER)
async def get_profile(name: str, reference: str, caller: CallerDep, engine: Engine, parts: PartsDep) -> Row:
    """Counts, nulls, distinct values, extremes, quantiles, histograms and frequent values of each column."""
    contents = await contents_of(engine, caller, name, reference)
    if contents.profile is None:
        raise VersionNotReady(f"Version {reference[:100]} of {name[:100]} has no profile: it failed.")
    profile: Row = orjson.loads(await parts.blobs.read(caller.project, contents.profile))
    return profile


@router.get("/{reference}/rejects")
@requires(Role.VIEWER)
async def list_rejects(
    name: str, reference: str, caller: CallerDep, engine: Engine, parts: PartsDep, page: PageDep
) -> Page[RejectOut]:
    """The lines that were refused, in their order."""
    contents = await contents_of(engine, caller, name, reference)
    files = [(contents.rejects, MANY)] if contents.rejects else []
    items, token = await _rows(parts, caller, files, page)
    return Page(items=[RejectOut.model_validate(item) for item in items], next_page_token=token)


@router.get("/{reference}/rows")
@requires(Role.VIEWER)
async def list_rows(
    name: str,
    reference: str,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    page: PageDep,
    split: Annotated[Side | None, Query()] = None,
) -> Page[Row]:
    """The rows, in the order of the source; those for training before those held out."""
    contents = await contents_of(engine, caller, name, reference)
    files = [(shard.digest, shard.rows) for shard in contents.shards if split in (None, shard.split)]
    items, token = await _rows(parts, caller, files, page)
    return Page(items=items, next_page_token=token)


@router.get("/{reference}/shards")
@requires(Role.VIEWER)
async def list_shards(name: str, reference: str, caller: CallerDep, transaction: Transaction) -> ShardsOut:
    """What the version is made of, by digest."""
    version = await VersionStore(transaction).get(caller.project, name, reference_of(reference))
    contents = _made(version)
    if version.digest is None:
        raise VersionNotReady(f"Version {version.reference} has failed.")
    return ShardsOut(
        digest=version.digest,
        columns=[ColumnSpec(name=column.name, type=column.type) for column in contents.columns],
        shards=[ShardOut.of(shard) for shard in contents.shards],
    )


@router.head("/{reference}/shards/{digest}", include_in_schema=False)
@router.get("/{reference}/shards/{digest}", response_class=StreamingResponse)
@requires(Role.VIEWER)
async def get_shard(
    name: str,
    reference: str,
    digest: str,
    request: Request,
    caller: CallerDep,
    engine: Engine,
    downloads: DownloadsDep,
) -> Response:
    """A shard as Parquet, verified before its first byte is sent. One `Range` of it can be asked for."""
    return await downloads.answer(request, await _stored(engine, caller, name, reference, digest))


@router.get("/{reference}/shards/{digest}/url")
@requires(Role.VIEWER)
async def get_shard_url(
    name: str,
    reference: str,
    digest: str,
    caller: CallerDep,
    engine: Engine,
    links: LinksDep,
    lifetime: Lifetime,
) -> LinkOut:
    """A URL of the shard for whoever has no key, for some minutes. It cannot be taken back."""
    return links.link(await _stored(engine, caller, name, reference, digest), lifetime)


async def _stored(engine: AsyncEngine, caller: Caller, name: str, reference: str, digest: str) -> Stored:
    contents = await contents_of(engine, caller, name, reference)
    found = next((shard for shard in contents.shards if shard.digest == digest), None)
    if found is None:
        raise ShardNotFound(f"Version {reference[:100]} of {name[:100]} has no shard {digest[:100]}.")
    file = f"{digest.rpartition(':')[2][:16]}.parquet"
    return Stored(caller.project, digest, found.size, file, "application/vnd.apache.parquet")


async def contents_of(engine: AsyncEngine, caller: Caller, name: str, reference: str) -> Contents:
    """What a version is made of. No transaction stays open while its bytes are read."""
    async with engine.begin() as connection:
        return _made(await VersionStore(connection).get(caller.project, name, reference_of(reference)))


def _made(version: Version) -> Contents:
    if version.phase not in FINAL:
        raise VersionNotReady(f"Version {version.reference} is {version.phase.value}.")
    return version.contents or Contents([], 0, 0, 0, 0, {}, [], None, None)


async def _rows(
    parts: PartsDep, caller: Caller, files: list[tuple[str, int]], page: PageDep
) -> tuple[list[Row], str | None]:
    """A page of rows by their place: nothing is ever put in between, since versions do not change."""
    offset = number_of(page.after) or 0
    found = await parts.pages.rows(caller.project, files, offset=offset, limit=page.limit)
    places = list(enumerate(found.rows, start=offset + 1))
    shown = replace(page, size=len(places) - 1) if found.cut else page
    items, token = page_of(places, shown, key=lambda place: str(place[0]))
    return [row for _, row in items], token
