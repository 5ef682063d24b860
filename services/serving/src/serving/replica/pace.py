"""What is answered on the event loop is answered in turns too: the loop is its queue, and everybody else's.

A crowd of requests that came at once would be answered in one breath, while threads that have finished, heartbeats and
new connections wait. After a slice of such work whoever is next waits for the loop to come round; when more wait than
can be answered in time, the next is refused at once.
"""

import asyncio
from collections import deque
from datetime import timedelta

from serving.replica.lanes import Overloaded

SLICE = 0.01
"""Seconds of one breath."""
LEARNING = 0.2


class Pace:
    def __init__(self, patience: float) -> None:
        """`patience` is the seconds that a request may wait for the loop."""
        self._patience = patience
        self._began: float | None = None
        self._done = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self.each = 0.0
        """Seconds of the loop for one request, with all that goes on beside it."""

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def turn(self) -> None:
        """At once, or when the loop has come round.

        Raises:
            Overloaded: it would take longer than anybody waits.
        """
        if self.take():
            return
        self.require_room()
        mine = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        await mine

    def is_free(self) -> bool:
        """Whether a turn may be taken now."""
        return not self._queue and (self._began is None or asyncio.get_running_loop().time() - self._began <= SLICE)

    def take(self) -> bool:
        """A turn, if there is one now."""
        if self._queue:
            return False
        loop = asyncio.get_running_loop()
        now = loop.time()
        began = self._began
        if began is None:
            began = now
            self._begin(loop, now)
        if now - began > SLICE:
            return False
        self._done += 1
        return True

    def require_room(self) -> None:
        """
        Raises:
            Overloaded: who comes now would wait longer than anybody does.
        """
        if (refusal := self.refusal()) is not None:
            raise refusal

    def refusal(self) -> Overloaded | None:
        """Why nobody more is let in, if nobody is."""
        if (wait := len(self._queue) * self.each) <= self._patience:
            return None
        detail = f"{len(self._queue)} requests wait for this process."
        return Overloaded(detail, retry_after=timedelta(seconds=max(wait, 1)))

    def _begin(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._began, self._done = now, 0
        loop.call_soon(self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop has come round: whoever waits goes on, as many as a slice has room for."""
        assert self._began is not None
        now = loop.time()
        if self._done:
            each = (now - self._began) / self._done
            self.each += (each - self.each) * (LEARNING if self.each else 1)
        self._began = None
        if not self._queue:
            return
        room = int(SLICE / self.each) + 1 if self.each else 1
        going = 0
        while self._queue and going < room:
            one = self._queue.popleft()
            if not one.done():  # else its client has gone
                one.set_result(None)
                going += 1
        self._begin(loop, now)
        self._done = going
