"""Workers that several queues share: whoever has had the least of their time goes next.

First come, first served would give a flooded queue what its neighbour needs. Here a queue that asks again has the
time behind it that it took before, and one that asks seldom is at once before all that ask much.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator


class Line:
    """One that shares: how far in the workers' time it is."""

    def __init__(self) -> None:
        self.until = 0.0


class Turns:
    def __init__(self, workers: int) -> None:
        self._free = workers
        self._now = 0.0
        """The place in time of whoever began last: nobody saves up what he did not ask for."""
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def turn(self, line: Line) -> AsyncIterator[None]:
        """A worker, for as long as this is open."""
        begins = max(line.until, self._now)
        await self._come(begins)
        clock = asyncio.get_running_loop().time
        began = clock()
        self._now = max(self._now, begins)
        try:
            yield
        finally:
            line.until = begins + clock() - began
            self._go()

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
