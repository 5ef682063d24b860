"""Log files that do not grow for ever."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

LARGEST = 8 << 20
EVERY = 5.0


async def bound(folder: Path, largest: int = LARGEST, every: float = EVERY) -> None:
    """Until cancelled, keep each log and one predecessor of it.

    The programs hold their files open for appending, so that a log is copied and then emptied in its place: a line
    that arrives between the two is lost, a program that waits for a reader of its output is not possible.
    """
    while True:
        with contextlib.suppress(OSError):  # a full disk: try again
            turn(folder, largest)
        await asyncio.sleep(every)


def turn(folder: Path, largest: int) -> None:
    """Make room in the logs that are too large."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > largest:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines, for an error message."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
