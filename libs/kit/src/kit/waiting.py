"""Long polls: `?wait=30s` holds an answer back until the thing has come to where its caller wants it.

No transaction is open between two looks, so that a thousand waiting clients cost no connection. Nothing is held back
from a client that has left, nor by a process that is asked to end: its client asks the next one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request

from kit import errors

T = TypeVar("T")
LONGEST = timedelta(seconds=60)
SOONEST, LATEST = 0.05, 0.5  # seconds between two looks; they grow apart
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")


class DurationInvalid(errors.Invalid): ...


def duration_of(text: str, *, pointer: str) -> timedelta:
    """A time span of the wire: `500ms`, `30s`, `10m`, `2h`, `1d`.

    Raises:
        DurationInvalid: it is written in another way.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        detail = "must be a number and a unit, such as 500ms, 30s, 10m, 2h or 1d"
        raise DurationInvalid("This is not a time span.", errors=[{"pointer": pointer, "detail": detail}])
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


async def _never() -> bool:
    return False


_is_over: ContextVar[Callable[[], Awaitable[bool]]] = ContextVar("is_over", default=_never)


def is_ending(request: Request) -> bool:
    """Whether the process that answers was asked to end (kit.app)."""
    said: Callable[[], bool] | None = request.scope.get("state", {}).get("is_ending")
    return said is not None and said()


async def _wait(
    request: Request, wait: Annotated[str | None, Query(max_length=12, examples=["30s"])] = None
) -> timedelta:
    async def is_over() -> bool:
        return is_ending(request) or await request.is_disconnected()

    if wait is None:
        return timedelta(0)
    _is_over.set(is_over)
    return min(duration_of(wait, pointer="?wait"), LONGEST)


# How long the caller is willing to wait for an answer that says more; none: not at all, a minute at most.
Wait = Annotated[timedelta, Depends(_wait)]


async def until(read: Callable[[], Awaitable[T]], done: Callable[[T], bool], wait: timedelta) -> T:
    """Read again and again until `done`, for `wait` at most; what was read last, done or not.

    In a request that asked for the `Wait` only as long as there is somebody to wait for and to be waited for.
    """
    loop = asyncio.get_running_loop()
    ends, pause = loop.time() + wait.total_seconds(), SOONEST
    while not done(found := await read()) and (left := ends - loop.time()) > 0 and not await _is_over.get()():
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LATEST)
    return found
