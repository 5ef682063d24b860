"""Models: names for lines of versions."""

from fastapi import APIRouter, Response

from kit import idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Transaction
from kit.paging import PageDep, page_of
from registry import actions
from registry.api.schemas import ModelIn, ModelOut, NameDep, Page
from registry.store.models import ModelStore

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=idempotency.Route)


@router.post("", status_code=201)
@requires(Role.EDITOR)
async def create_model(body: ModelIn, caller: CallerDep, transaction: Transaction, response: Response) -> ModelOut:
    """Make a model before it has versions. The first registration makes it too."""
    model = await actions.create_model(transaction, caller, body.name, body.description)
    response.headers["Location"] = f"/v1/models/{model.name}"
    return ModelOut.of(model)


@router.get("")
@requires(Role.VIEWER)
async def list_models(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[ModelOut]:
    found = await ModelStore(transaction).page(caller.project, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda model: model.name)
    return Page(items=[ModelOut.of(model) for model in items], next_page_token=token)


@router.get("/{name}")
@requires(Role.VIEWER)
async def get_model(name: NameDep, caller: CallerDep, transaction: Transaction) -> ModelOut:
    return ModelOut.of(await ModelStore(transaction).get(caller.project, name))


@router.delete("/{name}", status_code=204)
@requires(Role.EDITOR)
async def delete_model(name: NameDep, caller: CallerDep, transaction: Transaction) -> None:
    """Delete the model and all its versions. 409 while an alias points at one of them or somebody uses one."""
    await actions.delete_model(transaction, caller, name)
