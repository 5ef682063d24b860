"""Who looks after the program of a bundle: `python -m trainer.runtime.warden FOLDER`, under a keeper.

It starts the program in its sandbox, passes on what that prints and says, sees that it takes no more than it may, and
writes down what came of it. The program has no token and no network: all that it says, it says to its warden, and none
of it is believed. When the warden ends, the kernel ends the sandbox with all that is in it.
"""

import json
import logging
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.domain import programs
from trainer.domain.attempts import EXIT_OF, AttemptResult, Exit, Outcome
from trainer.domain.bundles import LogPolicy
from trainer.domain.programs import Ending, Told
from trainer.domain.redaction import Redactor
from trainer.domain.reports import FULL, MAX_LOG_BYTES
from trainer.runtime import collecting, trees
from trainer.runtime.hearing import Hearing
from trainer.runtime.starting import Started, start
from trainer.runtime.writing import write_result

if TYPE_CHECKING:
    from trainer.runtime.reporting import Reporter

LOOK, DISK_LOOK = 0.05, 2.0
SHARE = 10
"""Looking takes a tenth of the time at most, however much there is to see."""
CHUNK = 1 << 16
LONGEST = 16_000
MANY, FEW = 50_000, 25_000
"""Reports that wait: the program is made to wait too, as long as they go out …"""
PATIENCE = 10.0
"""… but not for longer than that."""
GRACE = 10.0
"""For a program that is told to end for what its log says."""
LEFT = 5.0
"""Seconds for reading what an ended program has left in its pipe."""

log = logging.getLogger(__name__)


class Warden:
    """Of one program."""

    def __init__(
        self, work: Path, told: Told, report: Callable[[], "Reporter"], sweep: Callable[[], None] = lambda: None
    ) -> None:
        """`report` makes who sends things to the trainer, once the program is on its way: that takes a while. `sweep`
        ends what a program without a sandbox has left behind.
        """
        self._work = work
        self._told = told
        self._report = report
        self._sweep = sweep
        self._selector = selectors.DefaultSelector()
        self._end = Ending(code=0, memory_bytes=told.memory_bytes, disk_bytes=told.disk_bytes)
        self._lines: deque[str] = deque(maxlen=programs.TAIL)
        self._rest = bytearray()
        self._log_bytes = 0
        self._started: Started | None = None
        self._out: int | None = None
        self._kill_at: float | None = None
        self._paused: float | None = None
        self._folders = [str(work / programs.RUN), told.checkpoints]
        self._redactor = Redactor(told.secrets.values())

    def run(self) -> AttemptResult:
        """To the program's end."""
        wake = self._hear_signals()
        with tempfile.TemporaryDirectory(prefix="ty-") as folder:
            hearing = Hearing(f"{folder}/{programs.SOCKET}", self._selector, self._fail)
            try:
                self._started = start(self._work, self._told, hearing.path)
                self._out = self._started.out
                self._selector.register(self._out, selectors.EVENT_READ, self._read)
                self._reporter = hearing.reporter = self._report()
                self._attend()
            finally:
                self._kill()
                hearing.close()
                wake.close()
                signal.set_wakeup_fd(-1)
        self._read_all()
        code = self._started.exit_code()
        self._end = replace(self._end, code=code, lines=tuple(self._lines))
        return self._result(hearing.last)

    def stop(self) -> None:
        """Have the program end by itself, if it does so soon; the runner kills it otherwise."""
        self._end = replace(self._end, stopped=True)
        if self._started is not None:
            self._started.terminate()

    def _hear_signals(self) -> socket.socket:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda number, frame: self.stop())
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._selector.register(wake, selectors.EVENT_READ, lambda: (wake.recv(CHUNK), woken.fileno()))
        return wake

    def _attend(self) -> None:
        assert self._started is not None
        look_at = disk_at = 0.0
        while self._started.process.poll() is None:
            for key, _ in self._selector.select(LOOK):
                key.data()
            now = time.monotonic()
            if now >= look_at:
                self._look(disk=now >= disk_at)
                cost = time.monotonic() - now
                disk_at = now + max(DISK_LOOK, SHARE * cost) if now >= disk_at else disk_at
                look_at = now + max(LOOK, SHARE * cost)
            if self._kill_at is not None and now > self._kill_at:
                self._kill()
            if self._end.stopped:
                self._started.terminate_once()  # it was only about to begin when it was told
            self._resume(now)

    def _look(self, *, disk: bool) -> None:
        assert self._started is not None
        seen = trees.look(self._started.process.pid, self._told.memory_bytes, programs.MAX_TASKS)
        self._end = replace(self._end, peak=max(self._end.peak, seen.resident))
        if seen.resident > self._told.memory_bytes:
            self._fail("memory", "")
        elif seen.tasks > programs.MAX_TASKS:
            self._fail("tasks", "")
        elif disk and trees.used(self._folders, self._told.disk_bytes) > self._told.disk_bytes:
            self._fail("disk", "")

    def _fail(self, ended_for: str, said: str) -> None:
        """End it at once: the first reason counts."""
        if not self._end.ended_for and self._end.policy is None:
            self._end = replace(self._end, ended_for=ended_for, said=said)
            self._kill()

    def _heed(self, policy: LogPolicy, line: str) -> None:
        if not self._end.ended_for and self._end.policy is None:
            self._end = replace(self._end, policy=policy, said=line)
            self._kill_at = time.monotonic() + GRACE
            if self._started is not None:
                self._started.terminate()

    def _kill(self) -> None:
        if self._started is not None:
            self._started.kill()
            self._sweep()

    def _read(self) -> bool:
        """What the program has printed. False: there is nothing more for now."""
        assert self._out is not None
        try:
            chunk = os.read(self._out, CHUNK)
        except BlockingIOError:
            return False
        for line in programs.lines_of(chunk, self._rest, LONGEST):
            self._line(line)
        if not chunk:
            self._unlisten()
            return False
        if self._reporter.backlog > MANY and self._reporter.is_heard:
            self._unlisten()
            self._paused = time.monotonic()
        return True

    def _unlisten(self) -> None:
        if self._out is not None and self._out in self._selector.get_map():
            self._selector.unregister(self._out)

    def _resume(self, now: float) -> None:
        if self._paused is not None and (self._reporter.backlog < FEW or now > self._paused + PATIENCE):
            self._paused = None
            assert self._out is not None
            self._selector.register(self._out, selectors.EVENT_READ, self._read)

    def _read_all(self) -> None:
        """What is left in the pipe when nobody writes to it any more."""
        ends = time.monotonic() + LEFT
        while self._read() and time.monotonic() < ends:
            pass
        if self._rest:
            for line in programs.lines_of(b"\n", self._rest, LONGEST):
                self._line(line)

    def _line(self, line: str) -> None:
        line = self._redactor.redact(line)
        self._lines.append(line)
        for policy in self._told.bundle.log_policies if not self._end.stopped else ():
            if policy.matches(line):
                self._heed(policy, line)
        size = len(line.encode(errors="replace")) + 1
        if self._log_bytes + size <= MAX_LOG_BYTES - CHUNK:
            self._reporter.log("info", line)
        elif self._log_bytes <= MAX_LOG_BYTES:
            self._reporter.log("warning", FULL)
            size = 2 * MAX_LOG_BYTES
        self._log_bytes += size

    def _result(self, last: dict[str, float]) -> AttemptResult:
        assert self._started is not None
        if self._started.is_refused(self._end):
            message = f"The runner's sandbox does not start: {self._end.lines[-1]}"[:2000]
            return AttemptResult(
                outcome=Outcome.FAILED, reason="sandbox-missing", message=message, hint=programs.SANDBOX_HINT
            )
        failure = programs.failure_of(self._end)
        if failure is not None:
            return replace(failure, metrics=last)
        if not self._told.registers:
            return AttemptResult(outcome=Outcome.SUCCEEDED, metrics=last)
        try:
            found = collecting.collect(self._work, self._told)
        except collecting.Refused as exc:
            return AttemptResult(outcome=Outcome.FAILED, reason="user-error", message=str(exc), hint=SAVE_HINT)
        if found is None:
            said = "The program ended well, and has saved no model that could be registered."
            return AttemptResult(outcome=Outcome.FAILED, reason="user-error", message=said, hint=SAVE_HINT)
        model, metrics = found
        return AttemptResult(outcome=Outcome.SUCCEEDED, metrics=last | metrics, model=model)


SAVE_HINT = "Save one with trainyard.runtime's save_model, or run the job without `register`."


def main(folder: Path) -> Exit:
    """Run the attempt in this folder."""
    told = Told.from_json(json.loads((folder / programs.WARDEN_FILE).read_text()))
    reporters: list[Reporter] = []

    def report() -> "Reporter":
        from trainer.runtime.reporting import reporter_for  # noqa: PLC0415 - the program is on its way by now

        reporters.append(reporter_for(told.url, told.token, timedelta(seconds=told.heartbeat_seconds)))
        return reporters[0]

    try:
        trees.be_reaper()
        result = Warden(folder, told, report, lambda: trees.end_all(os.getpid())).run()
    except Exception as exc:
        log.exception("the warden failed")
        result = AttemptResult(outcome=Outcome.PLATFORM_ERROR, message=f"{type(exc).__name__}: {exc}"[:2000])
    # From here on the attempt has its result: a late signal must not cut it in two.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_result(folder, result)
    for each in reporters:
        each.close()
    return EXIT_OF[result.outcome]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
