"""What goes on beside requests: what has no use any more is forgotten."""

import asyncio
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.store.keys import KeyStore
from kit import idempotency
from kit.reconcile import every

KEEP = timedelta(days=30)
"""How long a revoked or expired key is still listed."""
MINUTES = 600.0


async def forget(engine: AsyncEngine, *, stop: asyncio.Event) -> None:
    """Forget old answers and dead keys, now and then, until `stop` is set."""

    async def dead_keys() -> int:
        async with engine.begin() as connection:
            return await KeyStore(connection).delete_dead(KEEP)

    async with asyncio.TaskGroup() as group:
        group.create_task(every(MINUTES, lambda: idempotency.purge(engine), stop=stop))
        group.create_task(every(MINUTES, dead_keys, stop=stop))
