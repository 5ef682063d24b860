"""Deployments: which models answer under which name."""

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import errors, etags
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, page_of
from kit.waiting import Wait, until
from serving import actions
from serving.api.schemas import DeploymentIn, DeploymentOut, Name, Page
from serving.api.state import PartsDep
from serving.domain.deployments import Deployment
from serving.domain.limits import UNLIMITED
from serving.domain.revisions import Target
from serving.store.deployments import DeploymentStore

router = APIRouter(prefix="/v1/deployments", tags=["deployments"])


class NothingToChange(errors.PreconditionFailed):
    """If-Match names a state of something that is not there."""


@router.get("")
@requires(Role.VIEWER)
async def list_deployments(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[DeploymentOut]:
    """By name."""
    found = await DeploymentStore(transaction).page(caller.project, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda deployment: deployment.name)
    return Page(items=[DeploymentOut.of(deployment) for deployment in items], next_page_token=token)


@router.get("/{name}")
@requires(Role.VIEWER)
async def get_deployment(name: str, caller: CallerDep, engine: Engine, wait: Wait, response: Response) -> DeploymentOut:
    """With `?wait=30s`, once what was asked for last is ready or has failed."""

    async def read() -> Deployment:
        async with engine.begin() as connection:
            return await DeploymentStore(connection).get(caller.project, name)

    deployment = await until(read, lambda found: found.is_settled, wait)
    response.headers["ETag"] = _etag(deployment)
    return DeploymentOut.of(deployment)


@router.put("/{name}")
@requires(Role.EDITOR)
async def put_deployment(
    name: Name,
    body: DeploymentIn,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    request: Request,
    response: Response,
) -> DeploymentOut:
    """Serve a model, or several by weight, under a name. An existing deployment is changed with `If-Match`.

    The same again changes nothing. An alias is followed from then on. What a body leaves out of `limits` and `pinned`
    stays as it is; `"limits": {}` takes them away.
    """
    # Before any transaction: the registry may take its time.
    targets = await _resolved(body, caller, parts)
    async with engine.begin() as connection:
        deployment, created = await _put(connection, name, body, caller, request, targets, parts.deployments)
        failpoint("serving.deployment.before_commit")
    failpoint("serving.deployment.after_commit")
    response.status_code = 201 if created else 200
    response.headers["ETag"] = _etag(deployment)
    return DeploymentOut.of(deployment)


async def _put(
    connection: AsyncConnection,
    name: str,
    body: DeploymentIn,
    caller: Caller,
    request: Request,
    targets: tuple[Target, ...],
    limit: int,
) -> tuple[Deployment, bool]:
    store = DeploymentStore(connection)
    deployment = await store.find(caller.project, name, lock=True)
    if deployment is None:
        if "if-match" in request.headers:
            raise NothingToChange(f"There is no deployment {name}.")
        await store.require_room(caller.project, limit)
        first = body.wanted_limits or UNLIMITED
        made = await actions.add(connection, caller, name, body.parts, limits=first, is_pinned=bool(body.pinned))
        if made is not None:
            return made, True
        deployment = await store.get(caller.project, name, lock=True)  # made by another request meanwhile
    etags.require_match(request, _etag(deployment))
    limits, is_pinned = body.wanted_limits, body.pinned
    return await actions.change_models(
        connection, caller, deployment, body.parts, targets, limits=limits, is_pinned=is_pinned
    ), False


async def _resolved(body: DeploymentIn, caller: Caller, parts: PartsDep) -> tuple[Target, ...]:
    try:
        return await actions.resolve(parts.registry, caller.project, body.parts)
    except errors.Invalid as exc:
        if body.model is not None:
            exc.errors = [{**place, "pointer": "#/model"} for place in exc.errors]
        raise


@router.delete("/{name}", status_code=204)
@requires(Role.EDITOR)
async def delete_deployment(name: str, caller: CallerDep, transaction: Transaction, request: Request) -> None:
    """Stop serving. The models stay at the registry, and may be deleted there once no replica serves them."""
    deployment = await DeploymentStore(transaction).get(caller.project, name, lock=True)
    etags.check_match(request, _etag(deployment))
    await actions.remove(transaction, caller, deployment)


def _etag(deployment: Deployment) -> str:
    # A deleted and newly made deployment begins at generation 1 again: its id tells it apart.
    return etags.etag_of(f"{deployment.id}:{deployment.generation}")
