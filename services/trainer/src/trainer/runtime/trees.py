"""All that a process has started, as /proc shows it: how much it holds in memory, and its end."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = resource.getpagesize()
PATIENCE, PAUSE = 5.0, 0.005
DEEPEST = 3000
"""Characters of a path. What lies deeper is too deep to be looked at by its name."""
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Seen:
    """What was seen of a process with all that it started."""

    resident: int = 0
    tasks: int = 0


def be_reaper() -> None:
    """What a program leaves behind becomes this process's, to be ended with the rest."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def look(pid: int, memory: int, most: int) -> Seen:
    """Looked at from here; no further than to `most` processes and threads.

    What several of them share counts for each, which is quick to know. Only if that is more than `memory`, it is shared
    out between them.
    """
    resident = tasks = 0
    found = list[int]()
    for each in descendants(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            resident += int(Path(f"/proc/{each}/statm").read_bytes().split()[1]) * PAGE
            tasks += len(os.listdir(f"/proc/{each}/task"))
            found.append(each)
        if tasks > most:
            break
    return Seen(resident if resident <= memory else sum(map(_share, found)), tasks)


def _share(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
    return 0


def descendants(pid: int) -> Iterator[int]:
    """A process and all that it started, parents first: of every thread, since each has children of its own."""
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        yield each
        try:
            threads = os.listdir(f"/proc/{each}/task")
        except OSError:
            continue
        for thread in threads:
            with contextlib.suppress(OSError):
                waiting += map(int, Path(f"/proc/{each}/task/{thread}/children").read_bytes().split())


def end_all(me: int) -> None:
    """End all that this process has started, and what that left behind: it is their reaper."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        for number in (signal.SIGSTOP, signal.SIGKILL):  # what stands still starts nothing
            for each in descendants(me):
                if each != me:
                    with contextlib.suppress(OSError):
                        os.kill(each, number)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(PAUSE)


def used(folders: list[str], most: int) -> int:
    """Bytes on the disk below these folders, links not followed; no further than to `most`, which is passed where
    folders hide in folders."""
    total, waiting = 0, list(folders)
    while waiting and total <= most:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        total += (most + 1) * (len(entry.path) > DEEPEST)
                        waiting.append(entry.path)
    return total
