"""Versions of a model: registered by the trainer, read by everybody."""

from dataclasses import replace

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, number_of, page_of
from registry import actions
from registry.api.schemas import LineageOut, NameDep, NewName, Page, VersionOut
from registry.api.state import PartsDep
from registry.domain.manifests import Manifest
from registry.domain.versions import numbered, reference_of
from registry.store.models import ModelStore
from registry.store.versions import VersionStore

router = APIRouter(prefix="/v1/models/{name}/versions", tags=["models"])
internal = APIRouter(prefix="/internal/v1/models/{name}/versions", include_in_schema=False)


@internal.put("", status_code=201)
@requires(Role.EDITOR, issuers={"trainer"})
async def register_version(
    name: NewName, manifest: Manifest, caller: CallerDep, engine: Engine, parts: PartsDep, response: Response
) -> VersionOut:
    """Register what a job made. The digest says what it is: one that is there already is answered with 200."""
    async with parts.turns.take(), engine.begin() as connection:
        registered = await actions.register(connection, caller, name, manifest)
        failpoint("registry.version.before_commit")
    failpoint("registry.version.after_commit")
    version = registered.version
    response.status_code = 201 if registered.new else 200
    response.headers["Location"] = f"/v1/models/{version.model}/versions/{version.number}"
    return VersionOut.of(version)


@router.get("")
@requires(Role.VIEWER)
async def list_versions(name: NameDep, caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[VersionOut]:
    """The newest first."""
    await ModelStore(transaction).get(caller.project, name)
    page = replace(page, size=min(page.size, actions.BATCH))
    before = number_of(page.after)
    found = await VersionStore(transaction).page(caller.project, name, before=before, limit=page.limit)
    items, token = page_of(found, page, key=lambda version: str(version.number))
    return Page(items=[VersionOut.of(version) for version in items], next_page_token=token)


@router.get("/{reference}")
@requires(Role.VIEWER)
async def get_version(name: NameDep, reference: str, caller: CallerDep, transaction: Transaction) -> VersionOut:
    """`reference` is a number, an alias, `latest` (the newest) or a digest."""
    return VersionOut.of(await VersionStore(transaction).get(caller.project, name, reference_of(reference)))


@router.delete("/{reference}", status_code=204)
@requires(Role.EDITOR)
async def delete_version(name: NameDep, reference: str, caller: CallerDep, transaction: Transaction) -> None:
    """Delete a version. 409 while an alias points at it or somebody uses it. Its number is never given again.

    `reference` is the number, so that a request sent again deletes nothing else.
    """
    await actions.delete_version(transaction, caller, name, numbered(reference))


@router.get("/{reference}/lineage")
@requires(Role.VIEWER)
async def get_lineage(name: NameDep, reference: str, caller: CallerDep, transaction: Transaction) -> LineageOut:
    """Where the version comes from: dataset, job, code, environment."""
    return LineageOut.of(await VersionStore(transaction).get(caller.project, name, reference_of(reference)))


@router.get("/{reference}/files/{path}", response_class=StreamingResponse)
@requires(Role.VIEWER)
async def get_file(
    name: NameDep, reference: str, path: str, caller: CallerDep, engine: Engine, parts: PartsDep
) -> StreamingResponse:
    """A file of the version, verified while it is read."""
    async with engine.begin() as connection:
        version = await VersionStore(connection).get(caller.project, name, reference_of(reference))
    file = version.file(path)
    # Read once before the answer begins, so that damaged bytes are a problem document and not half a file.
    await parts.blobs.check(caller.project, file.digest)
    headers = {
        "content-length": str(file.size),
        "content-disposition": f'attachment; filename="{file.path}"',
        "etag": f'"{file.digest}"',
        "x-content-type-options": "nosniff",
    }
    stream = parts.blobs.stream(caller.project, file.digest)
    return StreamingResponse(stream, media_type="application/octet-stream", headers=headers)
