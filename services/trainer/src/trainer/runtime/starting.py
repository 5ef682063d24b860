"""The program of a bundle as processes: started in its sandbox, told to end, and ended."""

import contextlib
import ctypes
import glob
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from trainer.domain import programs, sandboxes
from trainer.domain.programs import Ending, Told

_PR_SET_PDEATHSIG = 1
SHELL = 128
"""A sandbox ends with this and the number of the signal that has ended the program."""
SOON = 5.0


class Started:
    """A program that was started."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: int, status: int | None) -> None:
        self.process = process
        self.out = out
        """What it prints comes here."""
        self._status = status
        self._said = b""
        self._first: int | None = None
        self._first_descriptor: int | None = None
        self._told = False

    def terminate(self) -> bool:
        """Tell the program to end. False: it has not begun, and cannot be told."""
        targets = [self.process.pid] if self._status is None else self._inner()
        for pid in targets:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        self._told = self._told or bool(targets)
        return bool(targets)

    def terminate_once(self) -> None:
        """Tell it, unless it was told."""
        if not self._told:
            self.terminate()

    def kill(self) -> None:
        """End it with all that it started, and know that this is so."""
        if self._status is not None:
            self._find_first()
            if self._first_descriptor is not None:
                with contextlib.suppress(ProcessLookupError, OSError):
                    signal.pidfd_send_signal(self._first_descriptor, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self._first_descriptor is not None:
            # The first process of a namespace is gone when all of them are.
            select.select([self._first_descriptor], [], [], SOON)
            os.close(self._first_descriptor)
            self._first_descriptor = None

    def exit_code(self) -> int:
        """How the program ended; below zero, the signal."""
        code = self.process.wait()
        return SHELL - code if self._status is not None and SHELL < code < SHELL + 65 else code

    def is_refused(self, end: Ending) -> bool:
        """Whether it was its sandbox that has ended."""
        lines = end.lines
        return (
            self._status is not None and end.code == 1 and bool(lines) and all(x.startswith("bwrap: ") for x in lines)
        )

    def _find_first(self) -> None:
        if self._first is not None or self._status is None:
            return
        with contextlib.suppress(BlockingIOError):
            self._said += os.read(self._status, 1 << 12)
        with contextlib.suppress(ValueError, KeyError, OSError, TypeError):
            first = int(json.loads(self._said.splitlines()[0])["child-pid"]) if self._said else None
            if first is not None and self.process.poll() is None:
                self._first_descriptor = os.pidfd_open(first)
                self._first = first

    def _inner(self) -> list[int]:
        self._find_first()
        if self._first is None or self.process.poll() is not None:
            return []
        with contextlib.suppress(OSError, ValueError):
            return [int(pid) for pid in Path(f"/proc/{self._first}/task/{self._first}/children").read_bytes().split()]
        return []


def start(work: Path, told: Told, path: str) -> Started:
    """Start it; `path` is the socket's."""
    places = sandboxes.inside() if told.sandbox else sandboxes.outside(work, told.checkpoints, path)
    run = work / programs.RUN
    for folder in (run / programs.OUTPUTS, run / programs.TEMPORARY, work / programs.INPUTS, work / "etc"):
        folder.mkdir(parents=True, exist_ok=True)
    (run / programs.RUN_FILE).write_text(json.dumps(sandboxes.run_document(told, places)))
    argv, read, write = list[str](), None, None
    if told.sandbox:
        for name, content in sandboxes.MADE.items():
            (work / "etc" / name).write_text(content)
        read, write = os.pipe()
        os.set_blocking(read, False)
        argv = sandboxes.bubblewrap(
            told,
            work,
            socket=path,
            status=write,
            devices=_devices(told.gpus),
            present=_present(),
            kernel=[path for path in sandboxes.KERNEL if Path(path).exists()],
            hidden=[path for path in sandboxes.HIDDEN if Path(path).exists()],
        )
    port = sandboxes.PORT if told.sandbox else _free_port()
    out, into = os.pipe()
    os.set_blocking(out, False)
    process = subprocess.Popen(  # noqa: S603 - in its sandbox
        [*argv, *sandboxes.command(told.bundle, told.python.executable, port, nodes=bool(told.launch))],
        env=sandboxes.environment(told, places),
        cwd=None if told.sandbox else places.bundle,
        stdin=subprocess.DEVNULL,
        stdout=into,
        stderr=into,
        pass_fds=() if write is None else (write,),
        preexec_fn=_leash(),
    )
    os.close(into)
    if write is not None:
        os.close(write)
    return Started(process, out, read)


def _leash() -> Callable[[], None]:
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def leash() -> None:  # pragma: no cover - in the child, which becomes another program
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return leash


def _present() -> dict[str, str | None]:
    return {
        folder: os.readlink(folder) if Path(folder).is_symlink() else None
        for folder in sandboxes.SYSTEM
        if Path(folder).exists()
    }


def _devices(gpus: int) -> list[str]:
    return sorted(glob.glob("/dev/nvidia*")) if gpus else []


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
