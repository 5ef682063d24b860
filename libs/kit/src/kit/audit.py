"""Who did what: a row in the transaction of the effect, so that there is exactly one for every effect."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import errors, telemetry
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Transaction
from kit.ids import uuid7
from kit.paging import PageDep, page_of
from kit.tables import audit


class EntryIdInvalid(errors.Invalid): ...


class Entry(BaseModel):
    id: uuid.UUID
    subject: str
    issuer: str
    action: str
    noun: str
    name: str
    detail: dict[str, Any]
    request_id: str | None
    created_at: datetime


class Entries(BaseModel):
    items: list[Entry]
    next_page_token: str | None


async def record(
    connection: AsyncConnection, caller: Caller, action: str, noun: str, name: str, detail: Mapping[str, Any]
) -> None:
    """Note that `caller` did `action` to the `noun` called `name`, in the caller's transaction."""
    values = {
        "id": uuid7(),
        "project": caller.project,
        "subject": caller.subject,
        "issuer": caller.issuer,
        "action": action,
        "noun": noun,
        "name": name,
        "detail": dict(detail),
        "request_id": telemetry.request_id.get(),
    }
    await connection.execute(sa.insert(audit).values(values))


async def page(connection: AsyncConnection, project: str, *, before: uuid.UUID | None, limit: int) -> list[Entry]:
    """The newest first."""
    of = [audit.c.project == project]
    if before is not None:
        of.append(audit.c.id < before)
    query = sa.select(audit).where(*of).order_by(audit.c.id.desc()).limit(limit)
    return [Entry.model_validate(dict(row._mapping)) for row in await connection.execute(query)]


def router() -> APIRouter:
    """The reading of a service's own rows; the gateway merges those of all services."""
    routes = APIRouter(prefix="/internal/v1/audit", include_in_schema=False)

    @routes.get("")
    @requires(Role.ADMIN, issuers={"gateway"})
    async def list_entries(caller: CallerDep, transaction: Transaction, asked: PageDep) -> Entries:
        try:
            before = None if asked.after is None else uuid.UUID(asked.after)
        except ValueError:
            raise EntryIdInvalid("Begin again without a page token.") from None
        found = await page(transaction, caller.project, before=before, limit=asked.limit)
        items, token = page_of(found, asked, key=lambda entry: str(entry.id))
        return Entries(items=items, next_page_token=token)

    return routes
