"""Versions of a model: registered by the trainer, pushed by users, read by everybody."""

from dataclasses import replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import blobs, idempotency
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.downloads import DownloadsDep, Stored
from kit.failpoints import failpoint
from kit.links import Lifetime, LinkOut, LinksDep
from kit.paging import PageDep, number_of, page_of
from registry import actions
from registry.api.bodies import body_of, json_of
from registry.api.schemas import LineageOut, NameDep, NewName, Page, PushedOut, VersionOut, lineage_of
from registry.api.state import Parts, PartsDep
from registry.domain.manifests import Manifest, Push, Trained, canonical, check_size
from registry.domain.versions import numbered, reference_of
from registry.store.contents import look_into
from registry.store.models import ModelStore
from registry.store.versions import VersionStore

router = APIRouter(prefix="/v1/models/{name}/versions", tags=["models"], route_class=idempotency.Route)
internal = APIRouter(prefix="/internal/v1/models/{name}/versions", include_in_schema=False)


@internal.put("", status_code=201)
@requires(Role.EDITOR, issuers={"trainer"})
async def register_version(
    name: NewName, manifest: Trained, caller: CallerDep, engine: Engine, parts: PartsDep, response: Response
) -> VersionOut:
    """Register what a job made. The digest says what it is: one that is there already is answered with 200."""
    async with parts.turns.take(), engine.begin() as connection:
        registered = await _register(connection, caller, name, manifest, parts)
    return _answer(registered, response)


@router.post("", status_code=201, responses={200: {"model": VersionOut}}, openapi_extra=body_of(Push))
@requires(Role.EDITOR, streams=True)
async def push_version(
    name: NewName, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep, response: Response
) -> VersionOut:
    """Make a version of files that were made elsewhere, and were sent to `…/blobs/{digest}` before.

    The model is made if there is none. The same files, signature and parameters again are the version that is there,
    answered with 200. Each file must be what its format says: that is looked at, and nothing is loaded.
    """
    push = await json_of(request, Push)
    manifest = push.manifest(caller.subject)
    check_size(manifest)
    missing = await _look_into_all(engine, parts, caller.project, manifest)
    said = canonical(push.model_dump(mode="json")).decode()
    async with parts.turns.take(), idempotency.effect(request, engine, caller, said) as connection:
        if missing is not None:
            # Not before: what was answered once is answered so again.
            raise actions.not_uploaded(manifest.formats[missing], missing)
        registered = await _register(connection, caller, name, manifest, parts)
    return _answer(registered, response)


async def _look_into_all(engine: AsyncEngine, parts: Parts, project: str, manifest: Manifest) -> int | None:
    """Look into every file, with no transaction open. Answers which of them is not here, if one is not."""
    async with engine.begin() as connection:
        found = [await blobs.find(connection, project, file.digest) for file in manifest.formats]
    for index, (file, blob) in enumerate(zip(manifest.formats, found, strict=True)):
        if blob is None:
            return index
        actions.check_file_size(file, blob, index)
    for index, file in enumerate(manifest.formats):
        async with parts.looks.take():
            await look_into(parts.blobs, project, file, f"#/formats/{index}")
    return None


async def _register(
    connection: AsyncConnection, caller: Caller, name: str, manifest: Manifest, parts: Parts
) -> actions.Registered:
    registered = await actions.register(connection, caller, name, manifest, parts.key)
    failpoint("registry.version.before_commit")
    return registered


def _answer(registered: actions.Registered, response: Response) -> VersionOut:
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
async def get_lineage(
    name: NameDep, reference: str, caller: CallerDep, transaction: Transaction
) -> LineageOut | PushedOut:
    """Where the version comes from: dataset, job, code, environment. Of one that was pushed: who did it, and whence."""
    return lineage_of(await VersionStore(transaction).get(caller.project, name, reference_of(reference)))


@router.head("/{reference}/files/{path}", include_in_schema=False)
@router.get("/{reference}/files/{path}", response_class=StreamingResponse)
@requires(Role.VIEWER)
async def get_file(
    name: NameDep,
    reference: str,
    path: str,
    request: Request,
    caller: CallerDep,
    engine: Engine,
    downloads: DownloadsDep,
) -> Response:
    """A file of the version, verified before its first byte is sent. One `Range` of it can be asked for."""
    return await downloads.answer(request, await _stored(engine, caller, name, reference, path))


@router.get("/{reference}/files/{path}/url")
@requires(Role.VIEWER)
async def get_file_url(
    name: NameDep,
    reference: str,
    path: str,
    caller: CallerDep,
    engine: Engine,
    links: LinksDep,
    lifetime: Lifetime,
) -> LinkOut:
    """A URL of the file for whoever has no key, for some minutes. It cannot be taken back."""
    return links.link(await _stored(engine, caller, name, reference, path), lifetime)


async def _stored(engine: AsyncEngine, caller: Caller, name: str, reference: str, path: str) -> Stored:
    async with engine.begin() as connection:
        version = await VersionStore(connection).get(caller.project, name, reference_of(reference))
    file = version.file(path)
    return Stored(caller.project, file.digest, file.size, file.path)
