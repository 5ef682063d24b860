"""What the supervisor says about itself, in a file that anyone in the home may read at any moment."""

import contextlib
import dataclasses
import enum
import json
import os
from pathlib import Path
from typing import Any

from trainyard_local.home import write_private


class Phase(enum.StrEnum):
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    DOWN = "down"
    FAILED = "failed"


@dataclasses.dataclass
class Entry:
    """One program."""

    port: int | None = None
    pid: int | None = None
    ready: bool = False
    restarts: int = 0


class Board:
    """Written anew, whole, at every change."""

    def __init__(self, file: Path, port: int) -> None:
        self._file = file
        self._port = port
        self._phase = Phase.STARTING
        self._message = "starting"
        self.programs: dict[str, Entry] = {}

    def say(self, message: str, phase: Phase | None = None) -> None:
        self._message = message
        self._phase = phase or self._phase
        self.write()

    def write(self) -> None:
        programs = {name: dataclasses.asdict(entry) for name, entry in self.programs.items()}
        state = {
            "pid": os.getpid(),
            "phase": self._phase,
            "message": self._message,
            "port": self._port,
            "programs": programs,
        }
        # A full disk must not end what runs; the next change is written again.
        with contextlib.suppress(OSError):
            write_private(self._file, state)


def read(file: Path) -> dict[str, Any]:
    """What was last written, or nothing."""
    try:
        state: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return state
