"""Which models are in memory: those that were asked last, within a budget, and always those that are pinned.

A deployment whose models were given up stays where it was: the next request brings them back, and waits for that.
"""

import asyncio
import logging
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from prometheus_client import Histogram

from kit import errors
from models.signature import Arrays, Prediction
from serving.domain.desired import Desired
from serving.domain.revisions import Target
from serving.replica.residents import Asleep, Resident, bytes_of, identity_of
from serving.replica.table import Answering, Live, Table

log = logging.getLogger(__name__)
LOADS = Histogram(
    "trainyard_model_load_seconds",
    "From the decision to load a model to its first warm answer.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
AT_ONCE = 2
"""Models that are loaded at one time."""
Awake = Callable[[uuid.UUID], Awaitable[Live]]


class NoRoom(errors.Unavailable):
    """What may not be given up leaves no room for another model."""


class Loads(Protocol):
    """Makes residents of targets."""

    async def load(self, project: str, target: Target, memory: int | None = None) -> Resident: ...


class Residency:
    """The residents of this process. Not for two threads."""

    def __init__(self, table: Table, loader: Loads, budget: int | None, awake: Awake) -> None:
        """`budget` in bytes, None: as many as there are. `awake` brings a deployment's models back."""
        self._table = table
        self._loader = loader
        self._budget = budget
        self._awake = awake
        self._residents: dict[str, Resident] = {}
        self._coming: dict[str, int] = {}
        self._claims: Counter[str] = Counter()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def held(self) -> int:
        """Bytes, as far as they are known."""
        return sum(it.bytes for it in self._residents.values()) + sum(self._coming.values())

    @contextmanager
    def claiming(self, desired: Desired) -> Iterator[None]:
        """Nothing of it is given up meanwhile."""
        keys = keys_of(desired)
        self._claims.update(keys)
        try:
            yield
        finally:
            self._claims.subtract(keys)
            self._claims += Counter()  # forgets those that nobody claims

    async def bring(self, desired: Desired) -> list[Resident]:
        """Its models, one for each target.

        Raises:
            NoRoom: they do not fit beside what stays.
            errors.Corrupt, errors.Unavailable: one cannot be loaded.
        """
        return [
            await self._resident(desired, target, key)
            for target, key in zip(desired.targets, keys_of(desired), strict=True)
        ]

    async def _resident(self, desired: Desired, target: Target, key: str) -> Resident:
        async with self._turn, self._locks[key]:
            there = self._residents.get(key)
            if there is not None and not there.is_lost:
                return there
            self._coming[key] = bytes_of(target)
            try:
                await self._make_room(desired.deployment)
                with LOADS.time():
                    made = await self._loader.load(desired.project, target, desired.limits.memory_bytes)
            finally:
                del self._coming[key]
            self._residents[key] = made
            await self._make_room(desired.deployment)  # it may be larger than it was believed to be
            return made

    async def _make_room(self, of: uuid.UUID) -> None:
        if self._budget is None:
            return
        # While a revision takes over, the one before is there too: it is not what keeps it out.
        own = {key for key in self._residents if {it.desired.deployment for it in self._users(key)} == {of}}
        while self.held - sum(self._residents[key].bytes for key in own - set(self._claims)) > self._budget:
            able = [
                users for key in self._residents if not self._claims[key] and _may_go(users := self._users(key), of)
            ]
            if not able:
                raise NoRoom(f"Models may take {self._budget} bytes here, and those that stay leave no room for this.")
            await self.evict(*min(able, key=lambda users: max((it.used_at for it in users), default=0.0)))

    def _users(self, key: str) -> list[Live]:
        return [live for live in self._table if not live.is_asleep and key in keys_of(live.desired)]

    async def evict(self, *lives: Live) -> None:
        """Give their models up. Requests under way finish; the next ones bring them back."""
        for live in lives:
            asleep = []
            for place, one in enumerate(live.answering):
                ask = partial(self._ask_again, live.desired.deployment, place)
                asleep.append(Answering(one.target, Asleep(one.resident.signature, ask), one.tally))
            self._table.put(Live(live.desired, tuple(asleep)))
            log.info("given up", extra={"deployment": live.desired.name})
        await self.keep_only_used()

    async def _ask_again(self, deployment: uuid.UUID, place: int, arrays: Arrays, rows: int) -> Prediction:
        live = await self._awake(deployment)
        one = live.answering[min(place, len(live.answering) - 1)]
        await one.admit(None)
        return await one.predict(arrays, rows)

    async def keep_only_used(self) -> None:
        """Drop what no deployment has, and none is about to."""
        used = {key for live in self._table if not live.is_asleep for key in keys_of(live.desired)} | set(self._claims)
        for key in self._residents.keys() - used:
            await self._residents.pop(key).close()
        for key in [key for key, lock in self._locks.items() if not lock.locked() and key not in self._residents]:
            del self._locks[key]


def _may_go(users: list[Live], of: uuid.UUID) -> bool:
    return not any(it.desired.is_pinned or it.desired.deployment == of for it in users)


def keys_of(desired: Desired) -> list[str]:
    """What its models are known by, one for each target."""
    return [identity_of(desired.project, target, desired.limits.memory_bytes) for target in desired.targets]
