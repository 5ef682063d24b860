"""One engine for each process; one transaction for each request."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

# The one clock that all replicas share; as a subquery it is not read anew for every row.
NOW = sa.select(sa.func.clock_timestamp()).scalar_subquery()

_LIMITS = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s", "lock_timeout": "10s"}
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in {**_LIMITS, "timezone": "UTC"}.items())
# A server that vanished without a word is noticed within seconds, also in the middle of a statement.
ALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def make_engine(url: str, *, connections: int = 5) -> AsyncEngine:
    """An engine that gives up early: a request without a database must become a 503, not a wait.

    Pools are small: the embedded PostgreSQL gives 200 connections to the processes of six services.
    """
    kept = max(1, connections // 2)
    parsed = sa.make_url(url)
    given = parsed.query.get("options", "")  # of a schema, say (kit.databases); ours come beside them
    return create_async_engine(
        parsed.difference_update_query(["options"]),
        pool_size=kept,
        max_overflow=connections - kept,
        pool_timeout=2,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 2,
            "prepare_threshold": 5,
            "options": f"{_OPTIONS} {given}".strip(),
            **ALIVE,
        },
    )


async def _transaction(request: Request) -> AsyncIterator[AsyncConnection]:
    # A request with an idempotency key has its transaction begun by kit.idempotency, which commits it too.
    begun: AsyncConnection | None = getattr(request.state, "transaction", None)
    if begun is not None:
        yield begun
        return
    async with request.state.engine.begin() as connection:
        yield connection


# scope="function": committed before the response is sent, so a 2xx is never a promise.
Transaction = Annotated[AsyncConnection, Depends(_transaction, scope="function")]


async def _engine(request: Request) -> AsyncEngine:
    engine: AsyncEngine = request.state.engine
    return engine


# For routes that must not hold a transaction open: long polls, and bodies that stream.
Engine = Annotated[AsyncEngine, Depends(_engine)]
