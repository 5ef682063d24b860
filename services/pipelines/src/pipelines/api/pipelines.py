"""Pipelines: definitions, written in YAML or JSON."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from kit import audit, errors, etags, idempotency, strictjson
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, page_of
from pipelines import actions
from pipelines.api.runs import RunCreation, run_out
from pipelines.api.schemas import Page, PipelineOut, RunIn, RunOut
from pipelines.api.state import PartsDep
from pipelines.domain.documents import Document, read_yaml
from pipelines.domain.kinds import Name
from pipelines.domain.pipelines import Pipeline
from pipelines.store.pipelines import PipelineStore

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"], route_class=idempotency.Route)
starting = APIRouter(prefix="/v1/pipelines", tags=["runs"], route_class=RunCreation)

JSON = "application/json"
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/yaml": {"schema": {"type": "string"}}, JSON: {"schema": {"type": "object"}}},
    }
}


@router.get("")
@requires(Role.VIEWER)
async def list_pipelines(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[PipelineOut]:
    """By name."""
    found = await PipelineStore(transaction).page(caller.project, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda pipeline: pipeline.name)
    return Page(items=[PipelineOut.of(pipeline) for pipeline in items], next_page_token=token)


@router.get("/{name}")
@requires(Role.VIEWER)
async def get_pipeline(name: str, caller: CallerDep, transaction: Transaction, response: Response) -> PipelineOut:
    pipeline = await PipelineStore(transaction).get(caller.project, name)
    response.headers["ETag"] = _etag(pipeline)
    return PipelineOut.of(pipeline)


@router.put("/{name}", openapi_extra=_BODY)
@requires(Role.EDITOR)
async def put_pipeline(
    name: Name, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep, response: Response
) -> PipelineOut:
    """Create the pipeline, or give an existing one (`If-Match`) another definition for its next run.

    The body is YAML (`application/yaml`) or JSON. 422 names every mistake with its place. The same definition again
    changes nothing.
    """
    # No transaction is open while a child looks at the expressions.
    document = await asyncio.to_thread(_document, request, await request.body())
    definition = await actions.checked(document, parts.compiler)
    async with engine.begin() as connection:
        store = PipelineStore(connection)
        pipeline = await store.find(caller.project, name, lock=True)
        if pipeline is None:
            pipeline = await store.add(caller.project, name, definition.document)
            if pipeline is None:
                raise etags.Changed("Somebody else has made it at this moment: read it, and decide again.")
            await audit.record(connection, caller, "create", "pipeline", name, {})
            response.status_code = 201
        else:
            if etags.forbids_existing(request):
                raise etags.Changed("It exists already.", etag=_etag(pipeline))
            etags.require_match(request, _etag(pipeline))
            pipeline = await actions.change_pipeline(connection, caller, pipeline, definition.document)
    response.headers["ETag"] = _etag(pipeline)
    return PipelineOut.of(pipeline)


@router.delete("/{name}", status_code=204)
@requires(Role.EDITOR)
async def delete_pipeline(name: str, request: Request, caller: CallerDep, transaction: Transaction) -> None:
    """Delete the definition; its runs stay. 409 while one of them is under way."""
    pipeline = await PipelineStore(transaction).get(caller.project, name, lock=True)
    etags.check_match(request, _etag(pipeline))
    await actions.delete_pipeline(transaction, caller, pipeline)


@starting.post("/{name}/runs", status_code=202)
@requires(Role.EDITOR)
async def start_run(name: str, body: RunIn, caller: CallerDep, transaction: Transaction, response: Response) -> RunOut:
    """Start a run of the definition as it is now. Steps that would do again what was done are reused."""
    run = await actions.start_run(transaction, caller, name, body.parameters)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    failpoint("pipelines.run.before_create")
    return await run_out(transaction, run)


def _document(request: Request, body: bytes) -> Document:
    """
    Raises:
        UnsupportedMedia: it is neither YAML nor JSON.
        Malformed: it is, but cannot be read.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in YAML:
        return read_yaml(body)
    if media == JSON:
        return Document(strictjson.loads(body))
    raise errors.UnsupportedMedia(f"{media[:100] or 'nothing'!r} is no type of a pipeline: send {YAML[0]} or {JSON}.")


def _etag(pipeline: Pipeline) -> str:
    # A deleted and newly made pipeline begins at revision 1 again: its id tells it apart.
    return etags.etag_of(f"{pipeline.id}:{pipeline.revision}")
