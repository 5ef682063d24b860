"""What a runner knows when it is started anew: its name, and the attempts that it has.

<folder>/host                      the host's id
<folder>/lock                      held while a runner lives: there is one at a time
<folder>/attempts/<id>/record.json what was granted, and what was done about it (0600: it holds a token)
<folder>/attempts/<id>/work/       where the program works (0700)
<folder>/attempts/<id>/output      what it printed
"""

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from trainer.domain.grants import Grant

RECORD = "record.json"


@dataclass(frozen=True)
class Record:
    """An attempt that this host has."""

    grant: Grant
    started: bool = False
    """Whether a keeper was started, or was just about to be."""
    ended_for: Literal["", "stop", "memory"] = ""
    """Why we ended the program, if we did."""
    lines: int = 0
    """Lines that the runner has written to the job's log."""
    process: str = ""
    """The trace context of the program, once it is started."""
    began: int = 0
    """When it was started, in nanoseconds since the epoch."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Record":
        known = {each.name: value[each.name] for each in fields(cls) if each.name in value}
        return cls(**known | {"grant": Grant.from_json(value["grant"])})


class Home:
    """The state folder of a host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "lock"
        self._attempts = folder / "attempts"
        self._attempts.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._held: int | None = None

    def take(self) -> bool:
        """Become the one runner of this host. False: there is one."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held = descriptor
        return True

    def leave(self) -> None:
        """Be no runner any more."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @property
    def host(self) -> str:
        """The host's id: made once, kept for ever."""
        path = self.folder / "host"
        if not path.exists():
            write_private(path, str(uuid.uuid4()))
        return path.read_text()

    def records(self) -> Sequence[Record]:
        """The attempts that an earlier runner had. What it did not get to write down whole is removed."""
        found = []
        for folder in sorted(self._attempts.iterdir()):
            try:
                found.append(Record.from_json(json.loads((folder / RECORD).read_text())))
            except (OSError, ValueError, TypeError, KeyError):
                shutil.rmtree(folder, ignore_errors=True)
        return found

    def save(self, record: Record) -> None:
        """Write down what is known, whole or not at all."""
        folder = self.folder_of(record.grant)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_private(folder / RECORD, json.dumps(asdict(record)))

    def forget(self, grant: Grant) -> None:
        """Remove everything of an attempt. Its processes have ended."""
        folder = self.folder_of(grant)
        (folder / RECORD).unlink(missing_ok=True)  # first: half a folder is nobody's
        shutil.rmtree(folder, ignore_errors=True)

    def folder_of(self, grant: Grant) -> Path:
        return self._attempts / str(uuid.UUID(grant.attempt))

    def work_of(self, grant: Grant) -> Path:
        return self.folder_of(grant) / "work"

    def output_of(self, grant: Grant) -> Path:
        return self.folder_of(grant) / "output"


def write_private(path: Path, text: str) -> None:
    """For this user alone, by renaming: a reader sees all of it or none."""
    staged = path.with_name(f"{path.name}.part")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
