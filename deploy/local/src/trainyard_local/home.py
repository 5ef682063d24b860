"""The one folder that holds a suite: where each thing is, and whose turn it is to run it."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainyard.errors import TrainyardError

SERVICES = ("ingest", "registry", "trainer", "serving", "pipelines", "gateway")
DEFAULT_PORT = 8080
_FOLDERS = ("run", "objects", "keys", "logs", "work")


class Refused(TrainyardError):
    """What the user asked for cannot be done, and what to do about it."""


class Home:
    """Paths below the folder. Nothing is made before `make` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.run = self.folder / "run"
        self.objects = self.folder / "objects"
        self.keys = self.folder / "keys"
        self.logs = self.folder / "logs"
        self.work = self.folder / "work"
        self.data = self.folder / "postgres"
        self.state = self.run / "state.json"
        self.credentials = self.folder / "credentials.json"
        self._lock = self.run / "lock"

    def make(self) -> None:
        """Folders that nobody else can enter."""
        for folder in (self.folder, *(self.folder / name for name in _FOLDERS), *self._work_folders()):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                folder.chmod(0o700)
            except PermissionError as exc:
                raise Refused(f"{folder} belongs to another user. Choose another TRAINYARD_HOME.") from exc

    def _work_folders(self) -> Iterable[Path]:
        return (self.work / service for service in SERVICES)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def passwords(self, roles: Iterable[str]) -> dict[str, str]:
        """Of the database roles: made at first, then the same for ever."""
        file = self.keys / "databases.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        missing = [role for role in roles if role not in known]
        if missing:
            known |= {role: secrets.token_urlsafe(24) for role in missing}
            write_private(file, known)
        return known

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether this process is now the one that runs the suite. The lock goes with the process, however it ends."""
        file = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            mine = _try_lock(file, patience=1.0)
            if mine:
                os.ftruncate(file, 0)
                os.pwrite(file, str(os.getpid()).encode(), 0)
            yield mine
        finally:
            os.close(file)

    def runner(self) -> int | None:
        """The process that runs the suite now."""
        try:
            file = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.pread(file, 20, 0) or b"0") or None
        finally:
            os.close(file)
        return None


def _try_lock(file: int, patience: float) -> bool:
    # `runner` takes the lock for an instant when it looks.
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def write_private(file: Path, value: object) -> None:
    """JSON that only the owner can read, whole or not at all."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    half.replace(file)
