"""Runs: executions of pipelines."""

import uuid
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, PageTokenInvalid, page_of
from kit.waiting import Wait, until
from pipelines import actions
from pipelines.api.schemas import Page, RunBrief, RunOut
from pipelines.domain.runs import FINAL, Run
from pipelines.store.runs import RunStore
from pipelines.store.steps import StepStore

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=idempotency.Route)


class RunCreation(idempotency.Route):
    """The route that begins runs: a place to fail at between its commit and its answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def created(request: Request) -> Response:
            response = await handle(request)
            failpoint("pipelines.run.after_create")
            return response

        return created


@router.get("")
@requires(Role.VIEWER)
async def list_runs(
    caller: CallerDep,
    transaction: Transaction,
    page: PageDep,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
) -> Page[RunBrief]:
    """The newest first; of one pipeline, if it is named."""
    before = None if page.after is None else _id_of(page.after)
    found = await RunStore(transaction).page(caller.project, pipeline=pipeline, before=before, limit=page.limit)
    items, token = page_of(found, page, key=lambda run: str(run.id))
    return Page(items=[RunBrief.of(run) for run in items], next_page_token=token)


@router.get("/{run_id}")
@requires(Role.VIEWER)
async def get_run(run_id: uuid.UUID, caller: CallerDep, engine: Engine, wait: Wait) -> RunOut:
    """A run with its steps. `?wait=30s` holds the answer back until the run has ended."""

    async def read() -> Run:
        async with engine.begin() as connection:
            return await RunStore(connection).get(caller.project, run_id)

    await until(read, lambda run: run.phase in FINAL, wait)
    async with engine.begin() as connection:
        return await run_out(connection, await RunStore(connection).get(caller.project, run_id))


@router.post("/{run_id}/cancel", status_code=202)
@requires(Role.EDITOR)
async def cancel_run(run_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> RunOut:
    """Ask for its end: what is under way is cancelled, what has not begun never does. 409 when it has ended."""
    return await run_out(transaction, await actions.cancel_run(transaction, caller, run_id))


@router.post("/{run_id}/resume", status_code=202)
@requires(Role.EDITOR)
async def resume_run(run_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> RunOut:
    """Go on from the steps that came to nothing; what succeeded stays. 409 unless it failed or was cancelled."""
    return await run_out(transaction, await actions.resume_run(transaction, caller, run_id))


@router.delete("/{run_id}", status_code=204)
@requires(Role.EDITOR)
async def delete_run(run_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> None:
    """Forget a run that has ended; what it made stays. 409 while it is under way."""
    await actions.delete_run(transaction, caller, run_id)


async def run_out(connection: AsyncConnection, run: Run) -> RunOut:
    """A run with its steps, as the wire has it."""
    return RunOut.with_steps(run, await StepStore(connection).of_run(run.project, run.id))


def _id_of(key: str) -> uuid.UUID:
    try:
        return uuid.UUID(key)
    except ValueError:
        raise PageTokenInvalid("Begin again without a page token.") from None
