"""Sweeps: ask for one, look at it and its trials, end it."""

import uuid

from fastapi import APIRouter, Response

from kit import idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.paging import PageDep, PageTokenInvalid, page_of
from kit.waiting import Wait, until
from trainer import actions
from trainer.api.schemas import Page
from trainer.api.sweep_schemas import SweepIn, SweepOut, SweepWithTrials
from trainer.domain.sweeps import ENDED, Sweep
from trainer.store.sweeps import SweepStore

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], route_class=idempotency.Route)


@router.post("", status_code=202)
@requires(Role.EDITOR)
async def create_sweep(body: SweepIn, caller: CallerDep, transaction: Transaction, response: Response) -> SweepOut:
    """Run `job` with other parameters again and again, and register the best as a version of `job.register.model`."""
    sweep = await actions.create_sweep(transaction, caller, body.spec(), body.document())
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    return SweepOut.of(sweep)


@router.get("")
@requires(Role.VIEWER)
async def list_sweeps(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[SweepOut]:
    """The newest first, without their trials."""
    before = None if page.after is None else _id_of(page.after)
    found = await SweepStore(transaction).page(caller.project, before=before, limit=page.limit)
    items, token = page_of(found, page, key=lambda sweep: str(sweep.id))
    return Page(items=[SweepOut.of(sweep) for sweep in items], next_page_token=token)


@router.get("/{sweep_id}")
@requires(Role.VIEWER)
async def get_sweep(sweep_id: uuid.UUID, caller: CallerDep, engine: Engine, wait: Wait) -> SweepWithTrials:
    """The sweep with all of its trials; with `?wait=30s`, once it has ended."""

    async def read() -> Sweep:
        async with engine.begin() as connection:
            return await SweepStore(connection).get(caller.project, sweep_id)

    await until(read, lambda sweep: sweep.phase in ENDED, wait)
    async with engine.begin() as connection:
        store = SweepStore(connection)
        sweep = await store.get(caller.project, sweep_id)
        return SweepWithTrials.of_all(sweep, await store.trials(sweep))


@router.post("/{sweep_id}/cancel", status_code=202)
@requires(Role.EDITOR)
async def cancel_sweep(sweep_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> SweepOut:
    """Ask the sweep and its trials to end. 409 when it has ended already."""
    return SweepOut.of(await actions.cancel_sweep(transaction, caller, sweep_id))


@router.delete("/{sweep_id}", status_code=204)
@requires(Role.EDITOR)
async def delete_sweep(sweep_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> None:
    """Forget a sweep that has ended; its jobs and the model version that it made stay."""
    await actions.delete_sweep(transaction, caller, sweep_id)


def _id_of(key: str) -> uuid.UUID:
    try:
        return uuid.UUID(key)
    except ValueError:
        raise PageTokenInvalid("Begin again without a page token.") from None
