"""Workers that several queues share: whoever has had the least of their time goes next.

First come, first served would give a flooded queue what its neighbour needs. Here a queue that asks again has the
time behind it that it took before, and one that asks seldom is at once before all that ask much.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Callable

CREDIT = 0.1
"""Seconds of a worker, at most, that who has asked for less than his share may have at once later: what comes now and
then comes in bursts too, and each burst would otherwise have every second turn only, beside a flood."""


class Line:
    """One that shares: how far in the workers' time it is."""

    def __init__(self) -> None:
        self.until = 0.0
        self.is_new = True
        """Whether it has not asked yet: then it has no credit either."""


class Turns:
    def __init__(self, workers: int) -> None:
        self._free = workers
        self._now = 0.0
        """The place in time of whoever began last: nobody saves up more than a little of what he did not ask for."""
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def turn(self, line: Line) -> AsyncIterator[Callable[[], bool]]:
        """A worker, for as long as this is open.

        What it gives says whether whoever has it may go on at once with another piece of work, as another turn: so he
        may when nobody waits who has had less. Else he gives it back, and asks again.
        """
        clock = asyncio.get_running_loop().time
        begins = self._place(line)
        await self._come(begins)
        began = clock()
        self._now = max(self._now, begins)

        def goes_on() -> bool:
            nonlocal begins, began
            now = clock()
            line.until = begins + now - began
            next_place = self._place(line)
            if (first := self._first()) is not None and first <= next_place:
                return False
            begins, began = next_place, now
            self._now = max(self._now, begins)
            return True

        line.is_new = False
        try:
            yield goes_on
        finally:
            line.until = begins + clock() - began
            self._go()

    def _place(self, line: Line) -> float:
        return self._now if line.is_new else max(line.until, self._now - CREDIT)

    def _first(self) -> float | None:
        """The place of whoever is next, if anybody waits."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    async def _come(self, begins: float) -> None:
        if self._free:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (begins, next(self._numbers), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._go()  # it was given, and nobody takes it
            raise

    def _go(self) -> None:
        while self._waiting:
            *_, next_one = heapq.heappop(self._waiting)
            if not next_one.done():
                next_one.set_result(None)
                return
        self._free += 1
