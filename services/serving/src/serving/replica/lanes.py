"""The queue in front of one model: a worker that is free takes whatever has queued, as one batch.

Nobody waits for a batch to fill: a lone request is served at once, and a crowd shares the model's fixed cost. What
cannot be answered in time, by what the model's answers were seen to cost, is refused at once; what nobody waits for any
more is not done.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from kit import errors
from models.signature import Arrays, Prediction
from serving.domain.costs import Cost
from serving.domain.limits import Limits
from serving.replica.tallies import Spent, Tally
from serving.replica.turns import Line, Turns

Run = Callable[[Arrays], Awaitable[Prediction]]
BATCH_ROWS = 1024
BATCH_SECONDS = 0.005
"""That a batch may take, or else twice its fixed part: more makes others wait, and hardly saves anything."""
QUEUED_ROWS = 50_000
"""That may wait for one model: a few large requests take the time and the memory of many small ones."""
PATIENCE = 1.0
"""Seconds that a request waits which does not say how long it would."""
ADMITTED = 0.5
"""Of the patience, that the wait may be expected to take: nobody who is let in shall be refused in the end."""
LONGEST = 30.0
"""Seconds, at most, after which somebody who was refused is told to come again."""
OVER = "The time that the request gave is over."


class Overloaded(errors.Unavailable):
    """More waits for this model than can be answered in time."""


class DeadlineExceeded(errors.TimedOut):
    """The time that the request gave was over before the model answered."""


def require_time(until: float | None) -> None:
    """
    Raises:
        DeadlineExceeded: it is over, by the clock of the loop.
    """
    if until is not None and asyncio.get_running_loop().time() > until:
        raise DeadlineExceeded(OVER)


@dataclass
class _Waiting:
    arrays: Arrays
    rows: int
    joins: Hashable
    answer: "asyncio.Future[Prediction]"
    until: float | None
    """When its client stops waiting, by the clock of the loop."""
    alarm: asyncio.TimerHandle
    since: float
    """When it came, by that clock."""
    spent: Spent

    def begun(self, now: float) -> None:
        """What is worked on is finished, also after the patience with a queue."""
        self.spent.queue += now - self.since
        if self.until is None:
            self.alarm.cancel()


class Meter:
    """How long batches are worked on, where that can be told: by a loop that is late they all seem to take long."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def measured(self, work: Callable[[Arrays], Prediction], arrays: Arrays) -> Prediction:
        """What `work` makes, timed where it is made."""
        began = time.perf_counter()
        try:
            return work(arrays)
        finally:
            self._seconds += time.perf_counter() - began

    def take(self) -> float:
        """The seconds since the last time; 0: nobody measured."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class Lane:
    def __init__(
        self,
        run: Run,
        *,
        waiting: int,
        concurrency: int | None = None,
        patience: float = PATIENCE,
        cost: Cost | None = None,
        turns: Turns | None = None,
        joins: Callable[[Arrays], Hashable] = lambda arrays: True,
        meter: Meter | None = None,
    ) -> None:
        """`run` is asked one batch at a time, when one of `turns` has come if there are any.

        `cost` is what is known of it so far, `concurrency` the requests of a batch at most. `joins` is
        equal of what can be one batch; None goes alone.
        """
        self._run = run
        self._most = waiting
        self._together = concurrency or BATCH_ROWS
        self._patience = patience
        self._cost = cost or Cost(0.0, 0.0)
        self._turns, self._line = turns, Line()
        self._joins = joins
        self._meter = meter or Meter()
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._batch = 0, 0.0  # rows under way, and since when
        self._worker: asyncio.Task[None] | None = None
        self.tally = Tally()
        """Of the batches that the model has answered."""

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits, and nothing is under way."""
        return self._worker is None

    def admit(self, rows: int = 1, until: float | None = None) -> None:
        """
        Raises:
            Overloaded: as many requests or rows wait as may, or these would not be answered in time.
        """
        if (refusal := self.refusal(rows, until)) is not None:
            raise refusal

    def refusal(self, rows: int = 1, until: float | None = None) -> Overloaded | None:
        """Why these rows are not let in, if they are not."""
        if self._worker is None:
            return None  # also when it is believed to be slow: how else should it be learned that it is not
        if len(self._queue) >= self._most:
            return self._full(f"{len(self._queue)} requests wait for this model.")
        if self._queue and self._rows + rows > QUEUED_ROWS:
            return self._full(f"{self._rows} rows wait for this model.")
        wait = self.wait()
        now = asyncio.get_running_loop().time()
        if wait > ADMITTED * self._patience if until is None else now + wait + self._cost.of(rows) > until:
            return self._full(f"It would take {wait:.1f} s until this model comes to it.")
        return None

    def wait(self) -> float:
        """The seconds, as far as is known, until the model comes to who asks now."""
        now = asyncio.get_running_loop().time()
        rows, since = self._batch
        expected, elapsed = self._cost.of(rows), now - since
        # Who takes longer than expected is believed to need as long again: a model that hangs fills no queue.
        left = 0.0 if not rows else expected - elapsed if elapsed < expected else elapsed
        if not self._queue:
            return left
        batches = max(-(-self._rows // self._most_rows()), -(-len(self._queue) // self._together))
        # Whoever else waits for a turn has one of his before each of ours.
        crowd = 1 if self._turns is None else 1 + self._turns.waiting
        return left + crowd * self._cost.of(self._rows, batches)

    def _full(self, detail: str) -> Overloaded:
        return Overloaded(detail, retry_after=timedelta(seconds=min(max(self.wait(), 1.0), LONGEST)))

    async def predict(
        self, arrays: Arrays, rows: int, until: float | None = None, spent: Spent | None = None
    ) -> Prediction:
        """The answers; into `spent` is written where the time went.

        Raises:
            Overloaded: as `admit`; or the model has not come to it within the patience.
            DeadlineExceeded: `until`, by the clock of the loop, is over.
        """
        self.admit(rows, until)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Prediction] = loop.create_future()
        now = loop.time()
        end = now + self._patience if until is None else until
        alarm = loop.call_at(end, self._late, answer, until is None)
        mine = _Waiting(arrays, rows, self._joins(arrays), answer, until, alarm, now, spent or Spent())
        self._queue.append(mine)
        self._rows += rows
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await answer
        finally:
            mine.alarm.cancel()

    def _late(self, answer: "asyncio.Future[Prediction]", is_patience: bool) -> None:
        if not answer.done():
            late = self._full("The model has not come to it.") if is_patience else DeadlineExceeded(OVER)
            answer.set_exception(late)

    async def drain(self) -> None:
        """Until nobody waits any more."""
        while self._worker is not None:
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        try:
            while self._queue:
                async with _alone() if self._turns is None else self._turns.turn(self._line) as goes_on:
                    await self._work_once()
                    while self._queue and goes_on():
                        await self._work_once()
                self._batch = 0, 0.0
        finally:
            self._worker = None

    async def _work_once(self) -> None:
        # Only now: whoever comes while others have their turn is part of the batch.
        batch, rows = self._next()
        if batch:
            self._batch = rows, asyncio.get_running_loop().time()
            self._cost.learn(rows, await self._serve(batch))

    def _most_rows(self) -> int:
        within = max(2 * self._cost.fixed, BATCH_SECONDS)
        return min(self._cost.rows_within(within), BATCH_ROWS)

    def _next(self) -> tuple[list[_Waiting], int]:
        batch: list[_Waiting] = []
        rows, most, now = 0, self._most_rows(), asyncio.get_running_loop().time()
        while self._queue and (not batch or self._fits(batch, rows, most)):
            waiting = self._queue.popleft()
            self._rows -= waiting.rows
            if not waiting.answer.done():  # else its client has gone, or its time is over
                waiting.begun(now)
                batch.append(waiting)
                rows += waiting.rows
        return batch, rows

    def _fits(self, batch: list[_Waiting], rows: int, most: int) -> bool:
        coming = self._queue[0]
        alike = coming.joins is not None and coming.joins == batch[0].joins
        return alike and rows + coming.rows <= most and len(batch) < self._together

    async def _serve(self, batch: list[_Waiting]) -> float:
        """Answer them. Says the seconds that the model took."""
        began = asyncio.get_running_loop().time()
        try:
            whole = await self._run(_joined(batch))
        except (errors.Corrupt, errors.Invalid) as error:
            took = self._took(began)
            if len(batch) == 1:
                _fail(batch, error)
                return took
            for one in batch:  # whose rows it were is only seen one by one
                if not one.answer.done():
                    took += await self._serve([one])
            return took
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            _fail(batch, error)
            return self._took(began)
        took = self._took(began)
        self._answer(batch, whole, took)
        return took

    def _took(self, began: float) -> float:
        return self._meter.take() or asyncio.get_running_loop().time() - began

    def _answer(self, batch: list[_Waiting], whole: Prediction, took: float) -> None:
        rows = sum(one.rows for one in batch)
        self.tally.executed(len(batch), rows, took)
        start = 0
        for one in batch:
            end = start + one.rows
            one.spent.compute, one.spent.batch = took, rows
            if not one.answer.done():
                one.answer.set_result(whole if len(batch) == 1 else whole.part(start, end))
            start = end


@dataclass(frozen=True)
class Queueing:
    """How long queues get, where a deployment does not say it."""

    waiting: int
    """Requests."""
    patience: float = PATIENCE
    """Seconds that a request waits which does not say how long it would."""

    def lane(
        self,
        run: Run,
        cost: Cost,
        turns: Turns,
        limits: Limits,
        joins: Callable[[Arrays], Hashable] = lambda arrays: True,
        meter: Meter | None = None,
    ) -> Lane:
        """A queue of one deployment in front of a model."""
        waiting = self.waiting if limits.waiting is None else limits.waiting
        return Lane(
            run,
            waiting=waiting,
            concurrency=limits.concurrency,
            patience=self.patience,
            cost=replace(cost),
            turns=turns,
            joins=joins,
            meter=meter,
        )


@asynccontextmanager
async def _alone() -> AsyncIterator[Callable[[], bool]]:
    """The turn of a queue that shares nothing."""
    yield lambda: True


def _joined(batch: list[_Waiting]) -> Arrays:
    if len(batch) == 1:
        return batch[0].arrays
    return {name: np.concatenate([one.arrays[name] for one in batch]) for name in batch[0].arrays}


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)
