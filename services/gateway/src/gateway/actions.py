"""What has several collaborators: the ring of keys, and what is done with keys that must be known at once."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.domain.access import Grant, Snapshot, Trust
from gateway.domain.keys import ApiKey
from gateway.domain.requests import Operation
from gateway.store.keys import KeyStore
from kit import leases, reconcile

log = logging.getLogger(__name__)
SERVICE = "gateway"


class KeyRing:
    """All live keys, as this process last saw them."""

    def __init__(self, engine: AsyncEngine, trust: Trust, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._trust = trust
        self._monotonic = monotonic
        self._snapshot: Snapshot | None = None
        self._seen = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether there was a snapshot ever."""
        return self._snapshot is not None

    @property
    def age(self) -> timedelta:
        return timedelta(seconds=min(self._monotonic() - self._seen, 1e9))

    @property
    def current(self) -> bool:
        return self.age <= self._trust.fresh

    def admit(self, key: ApiKey, operation: Operation) -> Grant:
        """What `key` gives for this operation, or the error that says why not."""
        snapshot = self._snapshot or Snapshot({})
        return snapshot.admit(key, operation, now=datetime.now(UTC), age=self.age, trust=self._trust)

    async def refresh(self) -> None:
        """Read all keys. What was committed before this call is known after it."""
        async with self._lock:
            began = self._monotonic()
            async with self._engine.connect() as connection:
                self._snapshot = await KeyStore(connection).snapshot()
            self._seen = began

    async def keep_current(self, *, every: float, wakeup: asyncio.Event, stop: asyncio.Event) -> None:
        """Refresh again and again, and at once when a NOTIFY says that something changed."""
        away = False
        while not stop.is_set():
            wakeup.clear()
            try:
                async with asyncio.timeout(self._trust.fresh.total_seconds()):
                    await self.refresh()
            except (SQLAlchemyError, OSError, TimeoutError) as exc:
                if not away:
                    log.warning("keys are not current", extra={"error": type(exc).__name__})
                away = True
            else:
                if away:
                    log.info("keys are current again")
                away = False
            await reconcile.first(wakeup, stop, seconds=every)


async def tell_all(connection: AsyncConnection) -> None:
    """Make every gateway read the keys anew once this transaction commits."""
    await leases.hint(connection, SERVICE)
