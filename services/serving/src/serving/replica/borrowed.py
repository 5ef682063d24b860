"""Models for work that is not asked for online: those that answer here already, or some of its own for a while."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.signature import Arrays, Prediction
from serving.domain.limits import UNLIMITED
from serving.domain.revisions import Target
from serving.replica.lanes import Lane
from serving.replica.residents import Resident, identity_of
from serving.replica.table import Table

PATIENCE = 600.0
"""Seconds that a few rows may wait for the model."""


class Loads(Protocol):
    """Makes residents of targets."""

    async def load(self, project: str, target: Target) -> Resident: ...


@dataclass(frozen=True)
class Lent:
    """A resident, and a queue in front of it that is the borrower's own: those of others take their turns beside it."""

    resident: Resident
    lane: Lane

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        """The answers, when their turn comes, however long that takes."""
        if self.resident.is_quick(rows):
            return await self.resident.predict(arrays, rows)
        return await self.lane.predict(arrays, rows, asyncio.get_running_loop().time() + PATIENCE)


class Borrowed:
    """What answers online is shared. Other models are loaded beside it, those of one batch at a time."""

    def __init__(self, table: Table, loader: Loads) -> None:
        self._table = table
        self._loader = loader
        self._own: dict[str, Resident] = {}
        self._users: dict[str, int] = {}
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def borrow(self, project: str, targets: Sequence[Target]) -> AsyncIterator[list[Lent]]:
        """A model for each target.

        Raises:
            errors.Corrupt, errors.Unavailable: one cannot be loaded, or not just now.
        """
        keys = [identity_of(project, target) for target in targets]
        async with self._turn:
            await self._close(unless=keys)
            found = [await self._resident(project, target, key) for target, key in zip(targets, keys, strict=True)]
            for key in keys:
                self._users[key] = self._users.get(key, 0) + 1
        try:
            yield [Lent(resident, resident.lane(UNLIMITED)) for resident in found]
        finally:
            for key in keys:
                self._users[key] -= 1

    async def close(self) -> None:
        """Give back what nobody uses."""
        async with self._turn:
            await self._close(unless=())

    async def _resident(self, project: str, target: Target, key: str) -> Resident:
        for live in self._table:
            for one in () if live.is_asleep else live.answering:
                if not one.resident.is_lost and identity_of(live.desired.project, one.target) == key:
                    return one.resident
        if key not in self._own or self._own[key].is_lost:
            self._own[key] = await self._loader.load(project, target)
        return self._own[key]

    async def _close(self, *, unless: Sequence[str]) -> None:
        for key in [key for key in self._own if not self._users.get(key) and key not in unless]:
            await self._own.pop(key).close()
        self._users = {key: count for key, count in self._users.items() if count}
