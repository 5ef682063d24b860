"""The queue in front of one model: a worker that is free takes whatever has queued, as one batch.

Nobody waits for a batch to fill: a lone request is served at once, and a crowd shares the model's fixed cost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from kit import errors
from models.signature import Arrays, Prediction

Run = Callable[[Arrays], Awaitable[Prediction]]
BATCH_ROWS = 1024
QUEUED_ROWS = 50_000
"""That may wait for one model: a few large requests take the time and the memory of many small ones."""


class Overloaded(errors.Unavailable):
    """Too many requests wait for this model."""


@dataclass(frozen=True)
class _Waiting:
    arrays: Arrays
    rows: int
    answer: "asyncio.Future[Prediction]"


class Lane:
    def __init__(self, run: Run, *, waiting: int) -> None:
        """`run` is asked one batch at a time."""
        self._run = run
        self._most = waiting
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        """
        Raises:
            Overloaded: as many requests or rows wait as may.
        """
        if len(self._queue) >= self._most:
            raise Overloaded(f"{self._most} requests wait for this model.", retry_after=timedelta(seconds=1))
        if self._queue and self._rows + rows > QUEUED_ROWS:
            raise Overloaded(f"{self._rows} rows wait for this model.", retry_after=timedelta(seconds=1))
        mine = _Waiting(arrays, rows, asyncio.get_running_loop().create_future())
        self._queue.append(mine)
        self._rows += rows
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await mine.answer

    async def drain(self) -> None:
        """Until nobody waits any more."""
        while self._worker is not None:
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        try:
            while batch := self._next():
                await self._serve(batch)
        finally:
            self._worker = None

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= BATCH_ROWS):
            waiting = self._queue.popleft()
            self._rows -= waiting.rows
            if not waiting.answer.done():  # else its client has gone
                batch.append(waiting)
                rows += waiting.rows
        return batch

    async def _serve(self, batch: list[_Waiting]) -> None:
        try:
            whole = await self._run(_joined(batch))
        except errors.Corrupt as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # whose rows it were is only seen one by one
                await self._serve([one])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            _fail(batch, error)
        else:
            start = 0
            for one in batch:
                end = start + one.rows
                if not one.answer.done():
                    scores = None if whole.scores is None else whole.scores[start:end]
                    one.answer.set_result(Prediction(whole.values[start:end], scores))
                start = end


def _joined(batch: list[_Waiting]) -> Arrays:
    if len(batch) == 1:
        return batch[0].arrays
    return {name: np.concatenate([one.arrays[name] for one in batch]) for name in batch[0].arrays}


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)
