"""What the tests of every service share. Nothing in production imports it."""

# ruff: noqa: ASYNC109 - the time is how long to poll, a look that hangs is the test's own

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

# Of the fixtures in the conftest.py at the root, by their names.
DatabaseUrl = Callable[[str], str]
EngineOf = Callable[[str], Awaitable[AsyncEngine]]


@overload
async def eventually(check: Callable[[], Awaitable[T]], timeout: timedelta = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], timeout: timedelta = ...) -> T: ...
async def eventually(check: Callable[[], Any], timeout: timedelta = timedelta(seconds=10)) -> Any:
    """What `check` answers once that is true; an AssertionError within the time counts as not yet.

    The only place in all tests that may poll.
    """
    until = time.monotonic() + timeout.total_seconds()
    while True:
        late = time.monotonic() >= until
        try:
            answer = check()
            found = await answer if inspect.isawaitable(answer) else answer
            if found:
                return found
        except AssertionError:
            if late:
                raise
        if late:
            raise AssertionError(f"not within {timeout.total_seconds():g} s: {check}")
        await asyncio.sleep(0.02)
