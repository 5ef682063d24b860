"""python dying_disk.py FOLDER STEP CALL HOW: save a checkpoint, and at that call of the disk die or have no room.

HOW is `killed` or `full`. Half of what was to be written is, before. Prints how many calls there were.
"""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from trainyard.runtime.checkpoints import Disk, Shelf
from trainyard.runtime.groups import Alone
from trainyard.runtime.saving import Checkpoints, Rhythm


class DyingDisk(Disk):
    """One call of it is the last, or fails."""

    def __init__(self, call: int, how: str) -> None:
        self._left = call
        self._how = how
        self.calls = 0

    def write(self, file: BinaryIO, content: bytes | memoryview) -> None:
        self.calls += 1
        if self.calls == self._left:
            super().write(file, content[: len(content) // 2])
            file.flush()
            self._fail()
        super().write(file, content)

    def sync(self, file: BinaryIO) -> None:
        self._count()
        super().sync(file)

    def sync_folder(self, folder: Path) -> None:
        self._count()
        super().sync_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._left:
            self._fail()

    def _fail(self) -> None:
        if self._how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "no space")


def state_of(step: int) -> dict[str, Any]:
    """Different at each step, and larger than a buffer."""
    return {"weights": bytes([step]) * 100_000, "step": step}


def save(folder: Path, step: int, disk: Disk) -> None:
    """As a program does."""
    shelf = Shelf(folder, disk)
    checkpoints = Checkpoints(shelf, Alone, lambda saved: None, Rhythm(keep=1))
    checkpoints.save(state_of(step), step=step)


if __name__ == "__main__":
    folder, step, call, how = sys.argv[1:]
    disk = DyingDisk(int(call), how)
    try:
        save(Path(folder), int(step), disk)
    finally:
        sys.stdout.write(f"{disk.calls}\n")
