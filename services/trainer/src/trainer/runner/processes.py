"""The processes of one attempt: started here, or by an earlier runner and taken over."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from kit import children
from trainer.runtime import keeper
from trainer.runtime.environments import environment_of

TAIL = 4000


class Processes:
    """A keeper, the program under it, and what that started."""

    def __init__(self, work: Path, output: Path, runner_lock: Path) -> None:
        self._work = work
        self._output = output
        self._runner_lock = runner_lock
        self._own: subprocess.Popen[bytes] | None = None

    @property
    def began(self) -> bool:
        """Whether a keeper ever claimed the folder."""
        return keeper.pid_of(self._work) is not None

    def start(self, trace: str) -> None:
        """Start the program in a session of its own, with nothing of our environment but what is named."""
        descriptor = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as output:
            self._own = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "trainer.runtime", str(self._work), str(self._runner_lock)],
                env=environment_of({**os.environ, "TRACEPARENT": trace}),
                cwd=self._work,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Whether the program, or what will be it, runs."""
        # A child of ours has no claim yet while it starts; one that was taken over has nothing but its claim.
        return (self._own is not None and self._own.poll() is None) or keeper.is_claimed(self._work)

    def resident(self) -> int:
        """Bytes in memory of all of it."""
        pid = self._pid()
        return 0 if pid is None else children.resident(pid)

    def terminate(self) -> None:
        """Ask the program to end."""
        self._signal(signal.SIGTERM, group=False)

    def kill(self) -> None:
        """End all of it."""
        self._signal(signal.SIGKILL, group=True)

    def exit_code(self) -> int | None:
        """How the program ended; None: nobody saw that."""
        found = keeper.exit_code_of(self._work)
        if found is None and self._own is not None:
            return self._own.poll()
        return found

    def tail(self) -> str:
        """The end of what it printed."""
        try:
            with self._output.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                return file.read().decode(errors="replace").replace("\0", "").strip()
        except FileNotFoundError:
            return ""

    def _pid(self) -> int | None:
        # Of the claim's owner, or of our own child: never a number that may be another process's by now.
        if keeper.is_claimed(self._work):
            return keeper.pid_of(self._work)
        return self._own.pid if self._own is not None and self._own.poll() is None else None

    def _signal(self, number: signal.Signals, *, group: bool) -> None:
        pid = self._pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if group else os.kill)(pid, number)
