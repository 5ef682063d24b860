"""Batches: ask a deployment about every row of a dataset version; the answer is a dataset version."""

import uuid
from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from kit import errors, idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.failpoints import failpoint
from kit.paging import PageDep, PageTokenInvalid, page_of
from kit.waiting import Wait, until
from serving import actions
from serving.api.schemas import Name, Page, TargetOut
from serving.api.state import PartsDep
from serving.domain.batches import FINAL, Asked, Batch, Phase, Progress, Reason
from serving.store.batches import BatchStore

router = APIRouter(prefix="/v1/deployments/{name}/batches", tags=["batches"], route_class=idempotency.Route)
MANY_COLUMNS = 500
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]


def _referring(value: str) -> str:
    try:
        Asked(value, "")
    except errors.Invalid as exc:
        raise ValueError(exc.detail) from None
    return value


class BatchIn(BaseModel):
    # Strict: "3" is no number, and true is not 1.
    model_config = ConfigDict(extra="forbid", strict=True)

    dataset: Annotated[str, Field(max_length=200, examples=["flights@3"]), AfterValidator(_referring)]
    output: Annotated[Name, Field(examples=["flight-predictions"])]
    """The dataset that the result is a version of. It is made if there is none of that name."""
    split: Literal["train", "held_out"] | None = None
    """None: all rows."""
    columns: Annotated[list[Word], Field(max_length=MANY_COLUMNS)] | None = None
    """The columns of the dataset that are carried over. None: all of them."""


class StatusOut(BaseModel):
    phase: Phase
    reason: Reason
    message: str
    hint: str


class ProgressOut(BaseModel):
    rows: int
    """Of the dataset version that are asked about; 0 until it is known which version is meant."""
    rows_done: int
    refused: int
    """Those of `rows_done` that have no answer: `prediction_error` says why."""


class ResultOut(BaseModel):
    dataset: str
    digest: str


class BatchOut(BaseModel):
    id: uuid.UUID
    deployment: str
    revision: int
    targets: list[TargetOut]
    dataset: str
    """As it was asked for; once it is pinned, by its number."""
    dataset_digest: str | None
    split: str | None
    output: str
    columns: list[str] | None
    status: StatusOut
    progress: ProgressOut
    result: ResultOut | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, batch: Batch, progress: Progress) -> Self:
        pinned, why = batch.pinned, batch.why
        columns = batch.asked.columns if pinned is None else [column.name for column in pinned.columns]
        result = batch.result
        return cls(
            id=batch.id,
            deployment=batch.deployment,
            revision=batch.revision,
            targets=list(map(TargetOut.of, batch.targets)),
            dataset=batch.asked.dataset if pinned is None else pinned.reference,
            dataset_digest=None if pinned is None else pinned.digest,
            split=batch.asked.split,
            output=batch.asked.output,
            columns=None if columns is None else list(columns),
            status=StatusOut(phase=batch.phase, reason=why.reason, message=why.message, hint=why.hint),
            progress=ProgressOut(rows=batch.rows, rows_done=progress.rows_done, refused=progress.refused),
            result=None if result is None else ResultOut(dataset=result.reference, digest=result.digest),
            created_at=batch.created_at,
            started_at=batch.started_at,
            finished_at=batch.finished_at,
        )


@router.post("", status_code=202)
@requires(Role.EDITOR)
async def create_batch(
    name: str, body: BatchIn, caller: CallerDep, transaction: Transaction, parts: PartsDep, response: Response
) -> BatchOut:
    """Ask the revision that the deployment has now about every row of a dataset version, each once.

    Whatever becomes of the deployment meanwhile, all rows are answered by the models of this revision. The result is a
    version of `output`: the rows in their order, with `row_number`, the columns carried over, `prediction` (and
    `prediction_score`), `prediction_model`, and `prediction_error` where the model takes a row for none of its own.
    """
    columns = None if body.columns is None else tuple(body.columns)
    asked = Asked(body.dataset, body.output, body.split, columns)
    batch = await actions.create_batch(transaction, caller, name, asked, limit=parts.batches)
    response.headers["Location"] = f"/v1/deployments/{name}/batches/{batch.id}"
    failpoint("serving.batch_created.before_commit")
    return BatchOut.of(batch, Progress())


@router.get("")
@requires(Role.VIEWER)
async def list_batches(name: str, caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[BatchOut]:
    """The newest first. A deployment that is deleted is not there, its batches are."""
    before = None if page.after is None else _id_of(page.after)
    store = BatchStore(transaction)
    found = await store.page(caller.project, name, before=before, limit=page.limit)
    progress = await store.progress(found)
    items, token = page_of(found, page, key=lambda batch: str(batch.id))
    return Page(items=[BatchOut.of(batch, progress[batch.id]) for batch in items], next_page_token=token)


@router.get("/{batch_id}")
@requires(Role.VIEWER)
async def get_batch(name: str, batch_id: uuid.UUID, caller: CallerDep, engine: Engine, wait: Wait) -> BatchOut:
    """The batch; with `?wait=30s`, once it has ended."""

    async def read() -> BatchOut:
        async with engine.begin() as connection:
            store = BatchStore(connection)
            batch = await store.get(caller.project, name, batch_id)
            return BatchOut.of(batch, (await store.progress([batch]))[batch.id])

    return await until(read, lambda batch: batch.status.phase in FINAL, wait)


@router.post("/{batch_id}/cancel", status_code=202)
@requires(Role.EDITOR)
async def cancel_batch(name: str, batch_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> BatchOut:
    """Ask the batch to end. 409 when it has ended already, or when its result is just being written."""
    batch = await actions.cancel_batch(transaction, caller, name, batch_id)
    return BatchOut.of(batch, (await BatchStore(transaction).progress([batch]))[batch.id])


@router.delete("/{batch_id}", status_code=204)
@requires(Role.EDITOR)
async def delete_batch(name: str, batch_id: uuid.UUID, caller: CallerDep, transaction: Transaction) -> None:
    """Delete a batch that has ended. The dataset version it made stays."""
    await actions.delete_batch(transaction, caller, name, batch_id)


def _id_of(key: str) -> uuid.UUID:
    try:
        return uuid.UUID(key)
    except ValueError:
        raise PageTokenInvalid("Begin again without a page token.") from None
