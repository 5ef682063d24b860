"""Datasets: a name and the settings of its next version."""

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest import actions
from ingest.api.schemas import DatasetIn, DatasetOut, Name, Page, SettingsIn
from ingest.domain.datasets import Dataset, DatasetNotFound
from ingest.store.datasets import DatasetStore
from kit import audit, etags, idempotency
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Transaction
from kit.paging import PageDep, page_of

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=idempotency.Route)


@router.post("", status_code=201)
@requires(Role.EDITOR)
async def create_dataset(
    body: DatasetIn, caller: CallerDep, transaction: Transaction, response: Response
) -> DatasetOut:
    dataset = await _create(body.name, body, caller, transaction)
    response.headers["Location"] = f"/v1/datasets/{dataset.name}"
    response.headers["ETag"] = _etag(dataset)
    return DatasetOut.of(dataset)


@router.get("")
@requires(Role.VIEWER)
async def list_datasets(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[DatasetOut]:
    found = await DatasetStore(transaction).page(caller.project, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda dataset: dataset.name)
    return Page(items=[DatasetOut.of(dataset) for dataset in items], next_page_token=token)


@router.get("/{name}")
@requires(Role.VIEWER)
async def get_dataset(name: str, caller: CallerDep, transaction: Transaction, response: Response) -> DatasetOut:
    dataset = await DatasetStore(transaction).get(caller.project, name)
    response.headers["ETag"] = _etag(dataset)
    return DatasetOut.of(dataset)


@router.put("/{name}")
@requires(Role.EDITOR)
async def put_dataset(
    name: Name, body: SettingsIn, caller: CallerDep, transaction: Transaction, request: Request, response: Response
) -> DatasetOut:
    """Create the dataset, or give an existing one (`If-Match`) other settings for its next version."""
    store = DatasetStore(transaction)
    try:
        dataset = await store.get(caller.project, name, lock=True)
    except DatasetNotFound:
        if "if-match" in request.headers:
            raise etags.Changed("There is no such dataset any more.") from None
        dataset = await _create(name, body, caller, transaction)
        response.status_code = 201
    else:
        etags.require_match(request, _etag(dataset))
        dataset = await actions.change_settings(transaction, caller, dataset, body.settings)
    response.headers["ETag"] = _etag(dataset)
    return DatasetOut.of(dataset)


@router.delete("/{name}", status_code=204)
@requires(Role.EDITOR)
async def delete_dataset(name: str, caller: CallerDep, transaction: Transaction, request: Request) -> None:
    """Delete the dataset and all its versions. 409 while somebody uses one of them."""
    dataset = await DatasetStore(transaction).get(caller.project, name, lock=True)
    etags.check_match(request, _etag(dataset))
    await actions.delete_dataset(transaction, caller, dataset)


async def _create(name: str, body: SettingsIn | DatasetIn, caller: Caller, transaction: AsyncConnection) -> Dataset:
    dataset = await DatasetStore(transaction).add(caller.project, name, body.settings)
    await audit.record(transaction, caller, "create", "dataset", name, {})
    return dataset


def _etag(dataset: Dataset) -> str:
    # A deleted and newly made dataset begins at revision 1 again: its id tells it apart.
    return etags.etag_of(f"{dataset.id}:{dataset.revision}")
