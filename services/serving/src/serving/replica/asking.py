"""What is asked of somebody who may never answer, and may not even hear that nobody waits any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Asking:
    """One question at a time, each for so long. A frozen server answers none, and keeps its connection meanwhile."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[Any] | None = None

    async def __call__(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `work` answers.

        Raises:
            TimeoutError: nothing, or it has not come to an end with what it was asked before.
        """
        async with self._turn:
            if self._task is not None and not self._task.done():
                raise TimeoutError("It is still busy with the question before.")
            self._task = task = asyncio.create_task(_of(work))
            task.add_done_callback(_heard)
            try:
                # Not asyncio.timeout: what is cancelled waits in the driver for the server's word that it was.
                await asyncio.wait({task}, timeout=self._seconds)
                if not task.done():
                    raise TimeoutError(f"No answer within {self._seconds:g} s.")
                return task.result()
            finally:
                task.cancel()


async def _of(work: Callable[[], Awaitable[Answer]]) -> Answer:
    return await work()


def _heard(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()  # of one that nobody waits for any more
