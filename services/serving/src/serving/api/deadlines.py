"""`X-Request-Timeout`: for how many seconds a client waits. What it does not wait for any more is not done."""

import asyncio
import math

from starlette.types import Scope

from kit import errors

HEADER = b"x-request-timeout"
LONGEST = 300.0


class TimeoutInvalid(errors.Malformed):
    """The header is no such time."""


def until(scope: Scope) -> float | None:
    """When the client stops waiting, by the clock of the loop; None if it does not say.

    Raises:
        TimeoutInvalid: it says something else.
    """
    for name, value in scope["headers"]:
        if name == HEADER:
            return asyncio.get_running_loop().time() + seconds_of(value)
    return None


def seconds_of(value: bytes) -> float:
    """
    Raises:
        TimeoutInvalid: it is no number above 0, or more than is waited for anything.
    """
    try:
        seconds = float(value) if value.isascii() and b"_" not in value else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise TimeoutInvalid(f"X-Request-Timeout is a number of seconds, above 0 and {LONGEST:g} at most.")
    return seconds
