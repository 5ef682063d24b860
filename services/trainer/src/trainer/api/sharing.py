"""What projects may have and what they took.

An operator, that is an admin of the project that the operator named in the settings, sees and sets all quotas; every
other caller sees those of his own project, and other projects are not there.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import audit, errors, etags
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Transaction
from kit.paging import PageDep, page_of
from trainer import admission
from trainer.api.schemas import Page
from trainer.api.state import PartsDep
from trainer.domain.resources import CORE, MAX_BYTES, MAX_GPUS, MAX_MILLIS, bytes_of
from trainer.domain.sharing import HIGHEST, LOWEST, MAX_JOBS, OperatorOnly, Period, Quota, QuotaNotFound, Standing, Took
from trainer.domain.specs import is_name
from trainer.store.ledger import LedgerStore
from trainer.store.shares import ShareStore

router = APIRouter(tags=["sharing"])
LONGEST = timedelta(days=366)
MOST = 1000
HOUR = 3600


class UsageInvalid(errors.Invalid): ...


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class BudgetIn(_In):
    core_hours: Annotated[float, Field(ge=0, le=1e9)]
    period: Literal["day", "week", "month"] = "month"


class QuotaIn(_In):
    """What is left out is without limit."""

    cpu: Annotated[float, Field(ge=0, le=MAX_MILLIS // CORE)] | None = None
    memory: Annotated[int, Field(ge=0, le=MAX_BYTES)] | Annotated[str, Field(max_length=20)] | None = None
    gpu: Annotated[int, Field(ge=0, le=MAX_GPUS)] | None = None
    jobs: Annotated[int, Field(ge=0, le=MAX_JOBS)] | None = None
    """That run, or wait for a runner, at one time."""
    priority: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] | None = None
    """The highest that its jobs may have."""
    budget: BudgetIn | None = None

    def quota(self) -> Quota:
        """
        Raises:
            QuantityInvalid: the memory is no amount.
        """
        size, budget = self.memory, self.budget
        if isinstance(size, str):
            size = bytes_of(size, pointer="#/memory")
        return Quota(
            cpu_millis=None if self.cpu is None else round(self.cpu * CORE),
            memory_bytes=size,
            gpus=self.gpu,
            jobs=self.jobs,
            priority=self.priority,
            core_hours=None if budget is None else budget.core_hours,
            period=Period.MONTH if budget is None else Period(budget.period),
        )


class BudgetOut(BaseModel):
    core_hours: float | None
    """None: without limit."""
    period: str
    spent: float
    """With what runs now."""
    since: datetime | None
    until: datetime | None


class QuotaOut(BaseModel):
    project: str
    cpu: float | None
    memory: int | None
    gpu: int | None
    jobs: int | None
    priority: int | None
    budget: BudgetOut
    used: dict[str, Any]
    """By attempts that run, or wait for a runner."""
    waiting: int
    """Jobs that wait for the quota."""

    @classmethod
    def of(cls, standing: Standing, waiting: int) -> Self:
        quota = standing.quota
        spent = standing.core_seconds / HOUR
        return cls(
            project=standing.project,
            cpu=None if quota.cpu_millis is None else quota.cpu_millis / CORE,
            memory=quota.memory_bytes,
            gpu=quota.gpus,
            jobs=quota.jobs,
            priority=quota.priority,
            budget=BudgetOut(
                core_hours=quota.core_hours,
                period=quota.period,
                spent=spent,
                since=standing.since,
                until=standing.until,
            ),
            used=standing.used.to_json() | {"jobs": standing.jobs},
            waiting=waiting,
        )


class TookOut(BaseModel):
    name: str
    """The day or the author."""
    core_hours: float
    gib_hours: float
    gpu_hours: float
    attempts: int
    """That have ended."""

    @classmethod
    def of(cls, took: Took) -> Self:
        hours = (took.core_seconds / HOUR, took.gib_seconds / HOUR, took.gpu_seconds / HOUR)
        return cls(name=took.name, core_hours=hours[0], gib_hours=hours[1], gpu_hours=hours[2], attempts=took.attempts)


class UsageOut(BaseModel):
    project: str
    first: date
    last: date
    by: str
    total: TookOut
    items: list[TookOut]
    """By day in their order; by author the greatest first, a thousand at most."""


@router.get("/v1/quotas")
@requires(Role.VIEWER)
async def list_quotas(caller: CallerDep, transaction: Transaction, parts: PartsDep, page: PageDep) -> Page[QuotaOut]:
    """Of the caller's own project; for an operator of all that ever had a job."""
    store = ShareStore(transaction)
    if _operates(caller, parts.operators):
        found = await store.projects(after=page.after, limit=page.limit)
    else:
        found = [caller.project] if page.after is None else []
    items, token = page_of(found, page, key=str)
    return Page(items=[await _shown(transaction, project) for project in items], next_page_token=token)


@router.get("/v1/quotas/{project}")
@requires(Role.VIEWER)
async def get_quota(
    project: str, caller: CallerDep, transaction: Transaction, parts: PartsDep, response: Response
) -> QuotaOut:
    """What the project may have, and what it has."""
    _check_visible(caller, parts.operators, project)
    response.headers["ETag"] = _etag(await ShareStore(transaction).standing(project))
    return await _shown(transaction, project)


@router.put("/v1/quotas/{project}")
@requires(Role.ADMIN)
async def put_quota(
    project: str,
    body: QuotaIn,
    caller: CallerDep,
    transaction: Transaction,
    parts: PartsDep,
    request: Request,
    response: Response,
) -> QuotaOut:
    """Set what the project may have: all of it. What its jobs have beyond that they keep until they end."""
    _check_visible(caller, parts.operators, project)
    if not _operates(caller, parts.operators):
        raise OperatorOnly(f"Quotas are set by admins of the project {parts.operators}.")
    store, quota = ShareStore(transaction), body.quota()
    etags.check_match(request, _etag(await store.lock(project)))
    await store.put(project, quota)
    await audit.record(transaction, caller, "set", "quota", project, body.model_dump())
    await admission.let_next_in(transaction, project)
    response.headers["ETag"] = _etag(await store.standing(project))
    return await _shown(transaction, project)


@router.get("/v1/usage")
@requires(Role.VIEWER)
async def get_usage(
    caller: CallerDep,
    transaction: Transaction,
    parts: PartsDep,
    first: date | None = None,
    last: date | None = None,
    by: Literal["day", "subject"] = "day",
    project: Annotated[str | None, Query(max_length=63)] = None,
) -> UsageOut:
    """What the project's attempts took on these days (UTC; this month unless said otherwise), with what runs now."""
    name = caller.project if project is None else project
    _check_visible(caller, parts.operators, name)
    last = last or datetime.now(UTC).date()
    first = first or last.replace(day=1)
    if not timedelta(0) <= last - first < LONGEST:
        raise UsageInvalid(
            "The days are no period.", errors=[{"pointer": "?first", "detail": "must be 366 days at most up to `last`"}]
        )
    store = LedgerStore(transaction)
    total = await store.total(name, first=first, last=last)
    items = await store.report(name, first=first, last=last, by=by, limit=MOST)
    return UsageOut(
        project=name, first=first, last=last, by=by, total=TookOut.of(total), items=[TookOut.of(each) for each in items]
    )


async def _shown(connection: AsyncConnection, project: str) -> QuotaOut:
    store = ShareStore(connection)
    return QuotaOut.of(await store.standing(project), await store.in_queue(project))


def _operates(caller: Caller, operators: str) -> bool:
    return caller.project == operators and caller.role is Role.ADMIN


def _check_visible(caller: Caller, operators: str, project: str) -> None:
    if not is_name(project) or (project != caller.project and not _operates(caller, operators)):
        raise QuotaNotFound(f"There is no project {project[:63]!r}.")


def _etag(standing: Standing) -> str:
    return etags.etag_of(repr(standing.quota))
