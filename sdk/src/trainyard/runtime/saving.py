"""When a training saves where it stands, how its processes agree on that, and where it goes on."""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

from trainyard.runtime.checkpoints import KEPT, Moment, Part, Saved, Shelf
from trainyard.runtime.groups import Group
from trainyard.runtime.mistakes import CannotResume, CannotSave, DamagedFile

SECONDS = 60.0
AGREED = 0.2
"""Seconds between two agreements of several processes: one costs a tenth of a millisecond, a step may cost no more."""
STOPPED = 128 + signal.SIGTERM
"""How a program ends that was told to, and has saved where it stands."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved."""

    state: Any
    local: Any
    """Of this rank; None where another number of processes saved it."""
    moment: Moment
    world_size: int


@dataclass
class Rhythm:
    """How often, and how many are kept."""

    steps: int | None = None
    seconds: float | None = SECONDS
    keep: int = KEPT

    def __post_init__(self) -> None:
        if (self.steps is not None and self.steps < 1) or self.keep < 1:
            raise ValueError("Checkpoints are made every step at most, and one is kept at least.")


@dataclass
class Checkpoints:
    """Those of a run. Every process calls the same, in the same order."""

    shelf: Shelf
    group: Callable[[], Group]
    heard: Callable[[Saved], None]
    """Is told of each that is on the disk; by rank 0."""
    rhythm: Rhythm = field(default_factory=Rhythm)
    clock: Callable[[], float] = time.monotonic
    _told_to_stop: bool = False
    _stopping: bool = False
    _listening: bool = False
    _calls: int = 0
    _next: int = 1
    _since: int = 0
    _agreed_at: float | None = None
    _saved_at: float | None = None
    _last: int | None = None

    @property
    def should_save(self) -> bool:
        """Whether it is time, or the last moment: the host is about to stop this program. Ask after every step.

        Asking has a price only every fifth of a second, when several processes agree on the answer.
        """
        self._listen()
        self._calls += 1
        if self._saved_at is None:
            self._saved_at = self.clock()
        group = self.group()
        by_steps = self.rhythm.steps is not None and self._calls % self.rhythm.steps == 0
        if group.world_size == 1:
            self._stopping = self._told_to_stop
            return by_steps or self._stopping or self._overdue()
        return self._agreement(group) or by_steps

    def _agreement(self, group: Group) -> bool:
        """Whether any process was told to stop, and what rank 0 says of the time, and of when to ask again."""
        if self._calls < self._next:
            return False
        now = self.clock()
        passed = now - (now if self._agreed_at is None else self._agreed_at)
        steps = self._calls - self._since
        pace = 1 if passed <= 0 else max(1, min(int(AGREED * steps / passed), 4 * steps))
        leads = group.rank == 0
        stop, due, pace = group.most([self._told_to_stop, leads and self._overdue(), pace if leads else 1])
        self._stopping = bool(stop)
        self._agreed_at, self._since, self._next = now, self._calls, self._calls + pace
        return bool(stop or due)

    def _overdue(self) -> bool:
        seconds = self.rhythm.seconds
        return seconds is not None and self._saved_at is not None and self.clock() - self._saved_at >= seconds

    def save(self, state: Any, *, step: int, epoch: int = 0, position: int = 0, local: Any = None) -> None:
        """Save where the training stands: `state` as rank 0 has it, and of each rank its `local`.

        When this answers, the checkpoint is on the disk. If the host has asked the program to stop, it does not answer
        but ends the program (SystemExit).

        Raises:
            CannotSave: there is a value that no checkpoint can hold, or another process could not write.
            OSError: the disk is full, or broken. What was saved before is there as it was.
        """
        if step != self._last:
            self._save(state, local, Moment(step, epoch, position))
        self._last = step
        self._saved_at = self.clock()
        if self._stopping:
            self._leave()

    def _save(self, state: Any, local: Any, moment: Moment) -> None:
        keep = self.rhythm.keep
        failure = self._try(state, local, moment, keep)
        if keep > 1 and _is_full(failure):
            # An older checkpoint is worth less than this one.
            if self.group().rank == 0:
                self.shelf.spare()
            failure = self._try(state, local, moment, 1)
        if failure is not None:
            raise failure

    def _try(self, state: Any, local: Any, moment: Moment, keep: int) -> Exception | None:
        """What went wrong at any of the processes; nothing is left of it."""
        group = self.group()
        staged = self.shelf.staged(moment.step, group.told(uuid4().hex[:12]))
        tree = {"local": local} | ({"state": state} if group.rank == 0 else {})
        parts = group.all_told(_tried(lambda: self.shelf.write(staged, group.rank, tree)))
        failure: Exception | None = next((part for part in parts if not isinstance(part, Part)), None)
        if failure is None:
            # Rank 0 alone gives it its name, and the others hear whether that went well.
            done = _tried(lambda: self._commit(staged, moment, parts, keep)) if group.rank == 0 else None
            failure = group.told(done)
        if failure is not None and group.rank == 0:
            self.shelf.discard(staged)
        return failure

    def _commit(self, staged: Any, moment: Moment, parts: list[Part], keep: int) -> None:
        saved = self.shelf.commit(staged, moment, parts)
        self.shelf.prune(saved, keep)
        self.heard(saved)

    def restore(self) -> Checkpoint | None:
        """The newest that is whole, for all processes the same; None where the training begins.

        Raises:
            CannotResume: rank 0 has one that this process cannot read.
        """
        group = self.group()
        found: tuple[Saved | None, list[str]] | None = None
        if group.rank == 0:
            self.shelf.sweep()
            found = self.shelf.newest()
            sys.stderr.writelines(f"{complaint}\n" for complaint in found[1])
        chosen = group.told(found and found[0] and found[0].moment.step)
        if chosen is None:
            return None
        checkpoint = _tried(lambda: self._read(chosen, group))
        for said in group.all_told(None if isinstance(checkpoint, Checkpoint) else checkpoint):
            if said is not None:
                raise said
        self._last = chosen
        return checkpoint  # type: ignore[no-any-return]

    def _read(self, step: int, group: Group) -> Checkpoint:
        try:
            saved = self.shelf.look(self.shelf.folder / f"{step:012d}")
            first = self.shelf.read(saved, 0)
            same = saved.world_size == group.world_size
            mine = first if group.rank == 0 else self.shelf.read(saved, group.rank) if same else {}
        except (OSError, DamagedFile) as error:
            raise CannotResume(
                f"Rank {group.rank} cannot read the checkpoint of step {step} that rank 0 has: {error} All processes "
                "of a job share one folder of checkpoints."
            ) from error
        return Checkpoint(first["state"], mine.get("local") if same else None, saved.moment, saved.world_size)

    def _listen(self) -> None:
        """From now on SIGTERM means: save and go. A program that never asks ends as programs do."""
        if self._listening or threading.current_thread() is not threading.main_thread():
            return
        self._listening = True
        signal.signal(signal.SIGTERM, self.hear)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The host is about to stop this program."""
        self._told_to_stop = True

    def _leave(self) -> NoReturn:
        self.group().leave()
        raise SystemExit(STOPPED)


def _tried(work: Callable[[], Any]) -> Any:
    """What it answers, or what went wrong, in a form that can be told to other processes."""
    try:
        return work()
    except OSError as error:
        return OSError(
            error.errno or errno.EIO, f"A checkpoint cannot be written: {os.strerror(error.errno or errno.EIO)}."
        )
    except (CannotSave, CannotResume) as error:
        return error


def _is_full(failure: Exception | None) -> bool:
    return isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
