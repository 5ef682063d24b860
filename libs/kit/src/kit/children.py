"""Child processes for what strangers wrote: their memory, time and output end before ours do.

A child has a session of its own and is ended with all that it started. It does not outlive this process, whatever
ends that. It gets the environment it is given and nothing of ours.
"""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

Reason = Literal["memory", "deadline", "output"]
LOOK = 0.02
"""Seconds between two looks at the memory: what a child can take in that time is what it may have too much."""
CHUNK = 1 << 16
ADDRESSES = 4 << 30
"""Bytes of address space beyond which an allocation fails at once, however fast it is made."""
_PR_SET_PDEATHSIG = 1
# Loaded here: after a fork nothing may be imported or looked up.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
_HAS_PROC = Path("/proc/self/statm").exists()


@dataclass(frozen=True)
class Finished:
    """How a child ended."""

    code: int
    """Its exit code; below zero, the signal that ended it."""
    out: bytes
    err: bytes
    reason: Reason | None
    """Which limit we ended it for, if we did."""
    peak: int
    """Bytes that it, and what it started, were seen to hold in memory."""


@dataclass
class _Watched:
    """A running child."""

    process: asyncio.subprocess.Process
    reason: Reason | None = None
    peak: int = 0
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)

    def end(self, reason: Reason | None) -> None:
        """End it with all that it started. The first reason counts."""
        if self.process.returncode is None:
            self.reason = self.reason or reason
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


async def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    memory: int,
    deadline: timedelta,
    output: int,
    env: Mapping[str, str],
    cwd: Path,
) -> Finished:
    """Run a program to its end, or to the first of its limits: bytes of resident memory, time, bytes of output."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        preexec_fn=_leash(memory),
    )
    child = _Watched(process)
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(child, memory, deadline))
            await asyncio.gather(
                _feed(process, stdin),
                _drain(child, process.stdout, child.out, output),
                _drain(child, process.stderr, child.err, output),
            )
            code = await process.wait()
            watching.cancel()
    finally:
        # Also what it left behind in its session, and also when the caller has given up.
        child.end(None)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Finished(code, bytes(child.out), bytes(child.err), child.reason, child.peak)


def _leash(memory: int) -> Callable[[], None]:
    """For the child, before it becomes the program."""
    parent = os.getpid()
    addresses = max(ADDRESSES, 4 * memory)

    def leash() -> None:  # pragma: no cover - runs in the child
        if _PRCTL is not None:
            _PRCTL(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if _HAS_PROC:
            resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))

    return leash


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    # A child may end, or close its input, before it has read all of it.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _drain(child: _Watched, stream: asyncio.StreamReader | None, into: bytearray, limit: int) -> None:
    assert stream is not None
    while chunk := await stream.read(CHUNK):
        if len(into) + len(chunk) > limit:
            child.end("output")
        into += chunk[: limit - len(into)]


async def _watch(child: _Watched, memory: int, deadline: timedelta) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline.total_seconds()
    while child.process.returncode is None:
        child.peak = max(child.peak, resident(child.process.pid))
        if child.peak > memory:
            child.end("memory")
        elif loop.time() >= ends:
            child.end("deadline")
        await asyncio.sleep(LOOK)


def resident(pid: int) -> int:
    """Bytes in memory of a process and of those it started. 0 when it is gone."""
    return _by_proc(pid) if _HAS_PROC else _by_ps(pid)


def _by_proc(pid: int, root: Path = Path("/proc")) -> int:
    try:
        pages = int((root / f"{pid}/statm").read_bytes().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    try:
        children = (root / f"{pid}/task/{pid}/children").read_bytes().split()
    except (FileNotFoundError, ProcessLookupError):
        children = []  # not every kernel has this file: the child's own memory counts all the same
    return pages * resource.getpagesize() + sum(_by_proc(int(child), root) for child in children)


def _by_ps(pid: int) -> int:
    # Where there is no /proc: of the whole session, which is the child's own.
    listed = subprocess.run(["ps", "-A", "-o", "rss=,pgid="], capture_output=True, text=True, check=False)  # noqa: S607
    rows = (line.split() for line in listed.stdout.splitlines())
    return sum(int(row[0]) * 1024 for row in rows if len(row) == 2 and row[1] == str(pid))
