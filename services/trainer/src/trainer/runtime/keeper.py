"""Who starts the program of a job, waits for it, and writes down how it ended, whatever becomes of the runner.

A keeper has a folder and a claim on it: a lock that the kernel lets go when the keeper is gone, however it went. By it
a runner that was started anew tells whether its child still works, and no folder is ever worked in twice.

    keeper.lock   the claim          keeper.pid   whose it is; its process group has all that the job started
    exit          the exit code; below zero, the signal

While no runner holds its own lock, the job goes on for ORPHAN: a new runner takes it over, or the keeper ends it.
"""

import ctypes
import fcntl
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from trainer.runtime.environments import environment_of

CLAIM_FILE, PID_FILE, EXIT_FILE = "keeper.lock", "keeper.pid", "exit"
TAKEN = 75
ORPHAN = 30.0
"""Seconds without a runner after which the program is told to stop …"""
LAST_WORD = 10.0
"""… and how long it has for that."""
TICK = 1.0
PROBED = 1.0
"""Seconds after which a lock is not one of a probe."""
ADDRESSES = 16 << 30
FILES = 8 << 30
_PR_SET_PDEATHSIG = 1
HEARD = {signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM}


def keep(folder: Path, runner_lock: Path | None, *, orphan: float = ORPHAN) -> int:
    """Run the program in this folder to its end. Says its exit code."""
    claim = os.open(folder / CLAIM_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    if not _claimed(claim) or (folder / PID_FILE).exists():
        return TAKEN
    _write(folder / PID_FILE, str(os.getpid()))
    # Before the fork, so that no signal is lost: each is asked for, one after the other.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    child = os.fork()
    if child == 0:
        _become_program(folder)
    try:
        code = _wait(child, runner_lock, orphan)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _write(folder / EXIT_FILE, str(code))
    os.close(claim)
    return code


def end_as(code: int) -> NoReturn:
    """End this process as the program ended."""
    if code < 0:  # pragma: no cover - of a process that is just ended by a signal
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def is_claimed(folder: Path) -> bool:
    """Whether a keeper works in this folder."""
    return _is_locked(folder / CLAIM_FILE)


def pid_of(folder: Path) -> int | None:
    """The keeper's process and process group. It is that one's only while the folder is claimed."""
    return _number_in(folder / PID_FILE)


def exit_code_of(folder: Path) -> int | None:
    """How the program ended; None: nobody saw that."""
    return _number_in(folder / EXIT_FILE)


def _become_program(folder: Path) -> NoReturn:  # pragma: no cover - in the child, which becomes another program
    try:
        # SIGTERM is held back until the program can answer it: a mask outlives exec.
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        if sys.platform == "linux":
            parent = os.getppid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILES, FILES))
        program = [sys.executable, "-P", "-m", "trainer.runtime.program", str(folder)]
        os.execve(sys.executable, program, environment_of(os.environ))  # noqa: S606 - our own interpreter, no shell
    finally:
        os._exit(70)


def _wait(child: int, runner_lock: Path | None, orphan: float) -> int:
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
    alone_since: float | None = None
    told = False
    while True:
        heard = signal.sigwait(HEARD)
        if heard == signal.SIGTERM:
            os.kill(child, signal.SIGTERM)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if runner_lock is None or _is_locked(runner_lock):
            alone_since = None
            continue
        alone_since = alone_since or time.monotonic()
        alone = time.monotonic() - alone_since
        if alone > orphan and not told:
            told = True
            os.kill(child, signal.SIGTERM)
        if alone > orphan + LAST_WORD:
            os.kill(child, signal.SIGKILL)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _claimed(descriptor: int) -> bool:
    """Whether the claim is ours now. Who only looks whether there is one has the lock for a moment too."""
    ends = time.monotonic() + PROBED
    while not _taken(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > ends:
            return False
        time.sleep(PROBED / 100)
    return True


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    """By renaming: a reader sees all of it or none."""
    staged = path.with_name(f"{path.name}.part")
    staged.write_text(text)
    staged.replace(path)


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
