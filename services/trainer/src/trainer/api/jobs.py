"""Training jobs: ask for one, look at it, end it."""

import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response

from kit import idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, PageTokenInvalid, page_of
from kit.waiting import Wait, until
from trainer import actions
from trainer.api.schemas import JobIn, JobOut, Page
from trainer.domain.jobs import FINAL
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore


class _Route(idempotency.Route):
    """Ends where a request with a key is committed and not answered yet, when a test wants that."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def then(request: Request) -> Response:
            response = await handle(request)
            if self.endpoint is create_job and response.status_code == 202:
                failpoint("trainer.job_created.after_commit")
            return response

        return then


router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=_Route)


@router.post("", status_code=202)
@requires(Role.EDITOR)
async def create_job(body: JobIn, caller: CallerDep, transaction: Transaction, response: Response) -> JobOut:
    """Train a model on a dataset version, and register it as a version of `register.model` if that is given."""
    job = await actions.create_job(transaction, caller, body.spec())
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    failpoint("trainer.job_created.before_commit")
    return JobOut.of(job)


@router.get("")
@requires(Role.VIEWER)
async def list_jobs(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[JobOut]:
    """The newest first."""
    before = None if page.after is None else _id_of(page.after)
    found = await JobStore(transaction).page(caller.project, before=before, limit=page.limit)
    items, token = page_of(found, page, key=lambda job: str(job.id))
    return Page(items=[JobOut.of(job) for job in items], next_page_token=token)


@router.get("/{job_id}")
@requires(Role.VIEWER)
async def get_job(job_id: uuid.UUID, caller: CallerDep, engine: Engine, wait: Wait) -> JobOut:
    """The job; with `?wait=30s`, once it has ended."""

    async def read() -> JobOut:
        async with engine.begin() as connection:
            job = await JobStore(connection).get(caller.project, job_id)
            return JobOut.of(job, await AttemptStore(connection).progress(job))

    return await until(read, lambda job: job.status.phase in FINAL, wait)


@router.post("/{job_id}/cancel", status_code=202)
@requires(Role.EDITOR)
async def cancel_job(job_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> JobOut:
    """Ask the job to end. 409 when it has ended already, or when its model is just being registered."""
    return JobOut.of(await actions.cancel_job(transaction, caller, job_id))


@router.delete("/{job_id}", status_code=204)
@requires(Role.EDITOR)
async def delete_job(job_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> None:
    """Delete a job that has ended, with its log and metrics; the model version it made stays."""
    await actions.delete_job(transaction, caller, job_id)


def _id_of(key: str) -> uuid.UUID:
    try:
        return uuid.UUID(key)
    except ValueError:
        raise PageTokenInvalid("Begin again without a page token.") from None
