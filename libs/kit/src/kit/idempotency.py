"""Idempotency keys: a POST that is sent again has one effect and one answer.

The answer is stored in the transaction of the effect, so that both are there or neither. What failed is not stored: it
had no effect, and may be tried again. A duplicate of a request that is still under way is refused, not made to wait.

Routes read by FastAPI need `APIRouter(route_class=Route)` and the `Transaction` of kit.db, which is then begun and
committed here. Routes that stream their body, and know it only once it is read, run their effect in `effect`.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors
from kit.callers import Caller, access_of
from kit.db import NOW
from kit.failpoints import failpoint
from kit.metrics import COLLECTED
from kit.tables import idempotency_keys

HEADER = "idempotency-key"
LIFETIME = timedelta(hours=24)
SOON = timedelta(seconds=1)
_KEPT = ("content-type", "location", "etag")
_LONGEST = 255


class IdempotencyKeyInvalid(errors.Malformed): ...


class IdempotencyKeyReused(errors.Invalid): ...


class IdempotencyInProgress(errors.Conflict): ...


class _Answered(Exception):
    """The request was answered before, or with an error that undoes its effect."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class _Pending:
    """The key of a request, and the transaction that will hold its effect and its answer."""

    def __init__(self, key: str, stack: contextlib.AsyncExitStack) -> None:
        self.key = key
        self._stack = stack
        self._project = ""
        self._fingerprint = ""
        self._connection: AsyncConnection | None = None

    async def begin(self, engine: AsyncEngine, project: str, fingerprint: str) -> AsyncConnection:
        """The transaction of the effect.

        Raises:
            _Answered: there is an answer already.
            IdempotencyInProgress: another request with this key is under way.
            IdempotencyKeyReused: the key was used for another request.
        """
        self._connection = await self._stack.enter_async_context(engine.begin())
        self._project, self._fingerprint = project, fingerprint
        await _lock(self._connection, project, self.key)
        stored = await _stored(self._connection, project, self.key)
        if stored is not None:
            if stored.fingerprint != fingerprint:
                raise IdempotencyKeyReused("This idempotency key was used for another request.")
            headers = {**stored.headers, "idempotent-replayed": "true"}
            raise _Answered(Response(bytes(stored.body), stored.status, headers))
        return self._connection

    async def keep(self, response: Response) -> None:
        """Store the answer beside its effect.

        Raises:
            _Answered: the answer is an error, so that the effect is rolled back.
        """
        if self._connection is None:
            return
        if response.status_code >= 400:
            raise _Answered(response)
        values = {
            "project": self._project,
            "key": self.key,
            "fingerprint": self._fingerprint,
            "status": response.status_code,
            "headers": {name: response.headers[name] for name in _KEPT if name in response.headers},
            "body": bytes(response.body),
        }
        await self._connection.execute(sa.insert(idempotency_keys).values(values))


class Route(APIRoute):
    """A route whose POSTs may bring a key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        access = access_of(self.endpoint)
        streams = access is not None and access.streams

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if request.method != "POST" or key is None:
                return await handle(request)
            try:
                async with contextlib.AsyncExitStack() as stack:
                    pending = _Pending(_checked(key), stack)
                    request.state.idempotency = pending
                    if not streams:
                        request.state.transaction = await _begin(request, pending)
                    response = await handle(request)
                    await pending.keep(response)
            except _Answered as answered:
                return answered.response
            failpoint("kit.idempotency.after_commit")
            return response

        return once


@contextlib.asynccontextmanager
async def effect(
    request: Request, engine: AsyncEngine, caller: Caller, fingerprint: str
) -> AsyncIterator[AsyncConnection]:
    """The transaction of a streaming route's effect. With a key it is committed when the answer is known."""
    pending: _Pending | None = getattr(request.state, "idempotency", None)
    if pending is None:
        async with engine.begin() as connection:
            yield connection
        return
    connection = await pending.begin(engine, caller.project, _digest(request, fingerprint.encode()))
    try:
        yield connection
    except BaseException:
        # At once, and not with the request: what is said of the failure must not wait for what failed.
        await connection.rollback()
        raise


async def purge(engine: AsyncEngine, *, age: timedelta = LIFETIME, limit: int = 10_000) -> int:
    """Forget the keys that are too old to be sent again. Says how many."""
    old = sa.select(idempotency_keys.c.project, idempotency_keys.c.key).where(idempotency_keys.c.created_at < NOW - age)
    batch = old.limit(limit).with_for_update(skip_locked=True)
    these = sa.tuple_(idempotency_keys.c.project, idempotency_keys.c.key).in_(batch)
    forgotten, full = 0, True
    while full:
        # Each in a transaction of its own, which stays far below the limit of a statement.
        async with engine.begin() as connection:
            found = (await connection.execute(sa.delete(idempotency_keys).where(these))).rowcount
        forgotten, full = forgotten + found, found >= limit
    COLLECTED.labels("idempotency-keys").inc(forgotten)
    return forgotten


async def _begin(request: Request, pending: _Pending) -> AsyncConnection:
    caller: Caller = request.state.caller
    engine: AsyncEngine = request.state.engine
    return await pending.begin(engine, caller.project, _digest(request, await request.body()))


def _digest(request: Request, content: bytes) -> str:
    said = f"{request.method} {request.scope['path']}?{request.scope['query_string'].decode('latin-1')}\n"
    return hashlib.sha256(said.encode() + content).hexdigest()


def _checked(key: str) -> str:
    if not 1 <= len(key) <= _LONGEST or not key.isascii() or not key.isprintable():
        raise IdempotencyKeyInvalid(f"An Idempotency-Key has 1 to {_LONGEST} printable ASCII characters.")
    return key


async def _lock(connection: AsyncConnection, project: str, key: str) -> None:
    name = sa.func.hashtextextended(f"{project} {key}", 0)
    if not (await connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(name)))).scalar_one():
        raise IdempotencyInProgress(
            "A request with this idempotency key is under way.", retry_after=timedelta(seconds=1)
        )


async def _stored(connection: AsyncConnection, project: str, key: str) -> sa.Row[Any] | None:
    this = sa.and_(idempotency_keys.c.project == project, idempotency_keys.c.key == key)
    # One that has expired makes way, so that the key is as good as new.
    await connection.execute(sa.delete(idempotency_keys).where(this, idempotency_keys.c.created_at < NOW - LIFETIME))
    return (await connection.execute(sa.select(idempotency_keys).where(this))).one_or_none()
