"""The last snapshot of all keys on disk: what a gateway that starts without its database goes on with."""

import contextlib
import json
import logging
import os
import tempfile
from datetime import datetime
from pathlib import Path

from gateway.domain.access import Snapshot
from gateway.domain.snapshots import document_of, snapshot_of

log = logging.getLogger(__name__)


class SnapshotFile:
    """One file that nobody else may read, or could have written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[Snapshot, datetime] | None:
        """What was kept last, and when it was true; None when there is nothing that can be trusted."""
        try:
            with self._path.open("rb") as file:
                about = os.fstat(file.fileno())
                if about.st_uid != os.geteuid() or about.st_mode & 0o077:
                    log.warning("the kept keys are not ours alone", extra={"path": str(self._path)})
                    return None
                return snapshot_of(json.loads(file.read()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            log.warning("the kept keys cannot be read", extra={"error": type(exc).__name__})
            return None

    def save(self, snapshot: Snapshot, seen_at: datetime) -> None:
        """All of the new or all of the old, also after a crash."""
        write_private(self._path, json.dumps(document_of(snapshot, seen_at)).encode())


def write_private(path: Path, content: bytes) -> None:
    """Put a file in place, whole, durable, and for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
