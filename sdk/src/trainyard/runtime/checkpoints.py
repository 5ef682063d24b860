"""Checkpoints in a folder, each whole or absent.

    000000000120/manifest.json           step, epoch, position, world size; of each file its size and digest
    000000000120/rank-0000.safetensors   what rank 0 saved; and so on for each rank

All files are written, and forced to the disk, in a folder of a name that nobody looks for; then that folder gets its
name, and that too is forced to the disk. What was cut off before has no name and is removed; what was damaged later
fails against its digests and is passed over.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from trainyard.runtime import states
from trainyard.runtime.mistakes import DamagedFile

MANIFEST = "manifest.json"
FORMAT = 1
KEPT = 2
CHUNK = 1 << 20
NAMED = re.compile(r"[0-9]{12,}")
STAGED = re.compile(r"\.[0-9]{12,}-[0-9a-z-]+")
LONGEST_MANIFEST = 64 << 20


@dataclass(frozen=True)
class Part:
    """What one rank wrote."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Moment:
    """Where a training stands."""

    step: int
    epoch: int = 0
    position: int = 0
    """Rows of the epoch that are done."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint in its folder."""

    folder: Path
    moment: Moment
    world_size: int
    parts: Sequence[Part]


class Disk:
    """What reaches the disk, call by call: here each may fail, or be the last thing that a process does."""

    def write(self, file: BinaryIO, content: bytes | memoryview) -> None:
        """Some bytes of a file."""
        file.write(content)

    def sync(self, file: BinaryIO) -> None:
        """A file's bytes survive from here on."""
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """A folder's names survive from here on."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """A folder gets its name."""
        old.rename(new)


class Shelf:
    """The checkpoints of a job."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk or Disk()

    def staged(self, step: int, token: str) -> Path:
        """Where the parts of a checkpoint are put together. The token tells one try from another."""
        return self.folder / f".{step:012d}-{token}"

    def write(self, staged: Path, rank: int, tree: Any) -> Part:
        """What one rank saves, on the disk."""
        staged.mkdir(parents=True, exist_ok=True)
        return self._write(staged / f"rank-{rank:04d}.safetensors", states.encoded(tree))

    def commit(self, staged: Path, moment: Moment, parts: Sequence[Part]) -> Saved:
        """Give a checkpoint its name. One of the same step that is there is known to be damaged, or older."""
        document = {
            "format": FORMAT,
            **asdict(moment),
            "world_size": len(parts),
            "files": [asdict(part) for part in parts],
        }
        self._write(staged / MANIFEST, [json.dumps(document, indent=1).encode()])
        self._disk.sync_folder(staged)
        final = self.folder / f"{moment.step:012d}"
        old = self.staged(moment.step, f"old-{os.getpid()}")
        if final.exists():
            self._disk.rename(final, old)
        self._disk.rename(staged, final)
        self._disk.sync_folder(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        return Saved(final, moment, len(parts), parts)

    def discard(self, staged: Path) -> None:
        """Leave nothing of a try."""
        shutil.rmtree(staged, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what tries of processes that are gone have left."""
        for folder in self._folders(STAGED):
            self.discard(folder)

    def prune(self, saved: Saved, keep: int) -> None:
        """Keep this one, which is whole, and of those before it the newest. What has a later step is damaged, or of a
        training that was begun anew."""
        folders = sorted(self._folders(NAMED), key=_step_of)
        before = [folder for folder in folders if _step_of(folder) < saved.moment.step]
        kept = {saved.folder, *before[max(0, len(before) - keep + 1) :]}
        for folder in folders:
            if folder not in kept:
                self._remove(folder)

    def spare(self) -> None:
        """Keep one alone: the newest that is whole."""
        saved, _ = self.newest()
        if saved is not None:
            self.prune(saved, 1)

    def _remove(self, folder: Path) -> None:
        # Its name goes first: what is removed half is no checkpoint any more.
        gone = self.staged(_step_of(folder), f"gone-{os.getpid()}")
        with contextlib.suppress(OSError):
            self._disk.rename(folder, gone)
            self.discard(gone)

    def newest(self) -> tuple[Saved | None, list[str]]:
        """The newest that is whole, byte by byte, and why newer ones are not."""
        complaints: list[str] = []
        for folder in sorted(self._folders(NAMED), key=_step_of, reverse=True):
            try:
                saved = self.look(folder)
                for part in saved.parts:
                    self._check(folder / part.path, part)
                return saved, complaints
            except (DamagedFile, OSError) as error:
                complaints.append(f"Checkpoint {folder.name} is passed over: {error}")
        return None, complaints

    def look(self, folder: Path) -> Saved:
        """What a manifest says.

        Raises:
            DamagedFile: it says nothing that can be understood.
        """
        path = folder / MANIFEST
        try:
            if path.stat().st_size > LONGEST_MANIFEST:
                raise DamagedFile(f"{MANIFEST} is too large.")
            document = json.loads(path.read_bytes())
            moment = Moment(*(int(document[name]) for name in ("step", "epoch", "position")))
            parts = [Part(_plain_name(it["path"]), int(it["size"]), str(it["sha256"])) for it in document["files"]]
            wrong = document["format"] != FORMAT or moment.step != _step_of(folder)
            if wrong or not parts or len(parts) != document["world_size"]:
                raise DamagedFile(f"{MANIFEST} is of another version, another step, or names too few ranks.")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedFile(f"{MANIFEST} is damaged.") from error
        return Saved(folder, moment, len(parts), parts)

    def read(self, saved: Saved, rank: int) -> Any:
        """What a rank saved."""
        part = saved.parts[rank]
        path = saved.folder / part.path
        self._check(path, part)
        with path.open("rb") as file:
            return states.decoded(file)

    def _write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> Part:
        digest = hashlib.sha256()
        size = 0
        with path.open("wb") as file:
            for piece in _chunks(pieces):
                self._disk.write(file, piece)
                digest.update(piece)
                size += len(piece)
            self._disk.sync(file)
        return Part(path.name, size, digest.hexdigest())

    def _check(self, path: Path, part: Part) -> None:
        if path.stat().st_size != part.size:
            raise DamagedFile(f"{part.path} has another size than was written.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != part.sha256:
                raise DamagedFile(f"{part.path} has other bytes than were written.")

    def _folders(self, name: re.Pattern[str]) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if name.fullmatch(path.name) and path.is_dir()]


def _chunks(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        for start in range(0, len(piece), CHUNK):
            yield piece[start : start + CHUNK]


def _step_of(folder: Path) -> int:
    return int(folder.name.lstrip(".").partition("-")[0])


def _plain_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"rank-[0-9]{4,}\.safetensors", name):
        raise DamagedFile(f"{MANIFEST} names a file that no rank writes.")
    return name
