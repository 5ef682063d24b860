"""Holds: whoever uses another service's thing says so at its owner first, and until it lets go DELETE answers 409.

PUT    /internal/v1/holds    {"noun", "ref", "holder"}          → 200 {"noun", "ref", "holder"}; again: the same
DELETE /internal/v1/holds?noun=…&ref=…&holder=…                 → 204; again: the same
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.callers import CallerDep, Role, requires
from kit.db import Transaction
from kit.tables import holds

Word = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Find = Callable[[AsyncConnection, str, str, str], Awaitable[str]]
"""`(connection, project, noun, ref)` → the ref as holds are kept. It locks the thing's row, so that a DELETE at the
same moment waits and then sees the hold, and raises an errors.NotFound when there is no such thing."""


class Hold(BaseModel):
    model_config = ConfigDict(extra="forbid")

    noun: Word
    ref: Word
    holder: Word


async def place(connection: AsyncConnection, project: str, noun: str, ref: str, holder: str) -> None:
    """Hold a thing whose row the caller has locked. Holding twice is holding."""
    values = {"project": project, "noun": noun, "ref": ref, "holder": holder}
    await connection.execute(pg.insert(holds).values(values).on_conflict_do_nothing())


async def release(connection: AsyncConnection, project: str, noun: str, ref: str, holder: str) -> None:
    """Let go. What is not held is let go already."""
    mine = sa.and_(_is(project, noun, ref), holds.c.holder == holder)
    await connection.execute(sa.delete(holds).where(mine))


async def is_held(connection: AsyncConnection, project: str, noun: str, ref: str) -> bool:
    """Whether anybody holds the thing. Ask with its row locked."""
    return bool((await connection.execute(sa.select(sa.exists().where(_is(project, noun, ref))))).scalar_one())


async def holders(connection: AsyncConnection, project: str, noun: str, ref: str) -> list[str]:
    """Who holds the thing."""
    query = sa.select(holds.c.holder).where(_is(project, noun, ref)).order_by(holds.c.holder)
    return list((await connection.execute(query)).scalars())


def _is(project: str, noun: str, ref: str) -> sa.ColumnElement[bool]:
    return sa.and_(holds.c.project == project, holds.c.noun == noun, holds.c.ref == ref)


def router(find: Find, *, issuers: Collection[str]) -> APIRouter:
    """The two routes, for a service whose things `find` knows."""
    routes = APIRouter(prefix="/internal/v1/holds", include_in_schema=False)

    @routes.put("")
    @requires(Role.VIEWER, issuers=issuers)
    async def place_hold(body: Hold, caller: CallerDep, transaction: Transaction) -> Hold:
        ref = await find(transaction, caller.project, body.noun, body.ref)
        await place(transaction, caller.project, body.noun, ref, body.holder)
        return Hold(noun=body.noun, ref=ref, holder=body.holder)

    @routes.delete("", status_code=204)
    @requires(Role.VIEWER, issuers=issuers)
    async def release_hold(
        noun: Annotated[Word, Query()],
        ref: Annotated[Word, Query()],
        holder: Annotated[Word, Query()],
        caller: CallerDep,
        transaction: Transaction,
    ) -> None:
        await release(transaction, caller.project, noun, ref, holder)

    return routes
