"""Aliases: moved by compare-and-set, and never forgotten where they were."""

from typing import Any

from fastapi import APIRouter, Request, Response

from kit import etags
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, number_of, page_of
from registry import actions
from registry.api.schemas import AliasDep, AliasIn, AliasOut, MoveOut, NameDep, NewAlias, Page
from registry.api.state import PartsDep
from registry.domain.aliases import Alias, AliasNotFound
from registry.store.aliases import AliasStore
from registry.store.models import ModelStore

router = APIRouter(prefix="/v1/models/{name}/aliases", tags=["models"])
# kit.etags reads them from the request: Swagger UI has to be told.
PRECONDITIONS: dict[str, Any] = {
    "parameters": [
        {
            "name": "If-Match",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "The ETag of the alias as you saw it.",
        }
    ]
}


@router.get("")
@requires(Role.VIEWER)
async def list_aliases(name: NameDep, caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[AliasOut]:
    model = await ModelStore(transaction).get(caller.project, name)
    found = await AliasStore(transaction).page(model, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda alias: alias.name)
    return Page(items=[AliasOut.of(alias) for alias in items], next_page_token=token)


@router.get("/{alias}")
@requires(Role.VIEWER)
async def get_alias(
    name: NameDep, alias: AliasDep, caller: CallerDep, transaction: Transaction, response: Response
) -> AliasOut:
    model = await ModelStore(transaction).get(caller.project, name)
    found = await AliasStore(transaction).get(model, alias)
    response.headers["ETag"] = _etag(found)
    return AliasOut.of(found)


@router.put("/{alias}", openapi_extra=PRECONDITIONS)
@requires(Role.EDITOR)
async def put_alias(
    name: NameDep,
    alias: NewAlias,
    body: AliasIn,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    request: Request,
    response: Response,
) -> AliasOut:
    """Make the alias, or (`If-Match`) point an existing one at another version. Where it points already it stays."""
    async with parts.turns.take(), engine.begin() as connection:
        model, seen = await actions.lock_alias(connection, caller.project, name, alias)
        _check_preconditions(request, seen)
        moved = await actions.point_alias(connection, caller, model, alias, seen=seen, number=body.version)
        failpoint("registry.alias.before_commit")
    failpoint("registry.alias.after_commit")
    response.status_code = 201 if seen is None else 200
    response.headers["ETag"] = _etag(moved)
    return AliasOut.of(moved)


@router.delete("/{alias}", status_code=204, openapi_extra=PRECONDITIONS)
@requires(Role.EDITOR)
async def delete_alias(
    name: NameDep, alias: AliasDep, caller: CallerDep, transaction: Transaction, request: Request
) -> None:
    """Delete the alias; with `If-Match`, only as it was seen. Its history stays."""
    model, seen = await actions.lock_alias(transaction, caller.project, name, alias)
    if seen is None:
        raise AliasNotFound(f"There is no alias {alias} of {name}.")
    etags.check_match(request, _etag(seen))
    await actions.delete_alias(transaction, caller, model, seen)


@router.get("/{alias}/history")
@requires(Role.VIEWER)
async def list_moves(
    name: NameDep, alias: AliasDep, caller: CallerDep, transaction: Transaction, page: PageDep
) -> Page[MoveOut]:
    """Where the alias pointed, who moved it and when, the newest first; also of one that was deleted."""
    before = number_of(page.after)
    found = await AliasStore(transaction).history(caller.project, name, alias, before=before, limit=page.limit)
    if not found and before is None:
        raise AliasNotFound(f"There has never been an alias {alias} of {name}.")
    items, token = page_of(found, page, key=lambda move: str(move.number))
    return Page(items=[MoveOut.of(move) for move in items], next_page_token=token)


def _check_preconditions(request: Request, seen: Alias | None) -> None:
    """
    Raises:
        IfMatchMissing: there is an alias, and the request does not say which state of it is meant.
        Changed: another state is meant, or one that is not there.
    """
    if seen is None:
        if "if-match" in request.headers:
            raise etags.Changed("The alias is not there (any more).")
    elif etags.forbids_existing(request):
        raise etags.Changed("The alias is there already.", etag=_etag(seen))
    else:
        etags.require_match(request, _etag(seen))


def _etag(alias: Alias) -> str:
    return etags.etag_of(alias.state)
