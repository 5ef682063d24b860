"""What is in the archive of a bundle: read member by member under limits, so that no archive costs more than it may.

A tar (packed by gzip) or a zip, told apart by their first bytes. The members are files and folders, nothing else; each
path is plain, and is there once. A folder is made where a file needs it, so that folders of an archive say nothing.
"""

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from trainer.domain.bundles import MAX_FILES, MAX_UNPACKED, BundleInvalid, folded, path_mistake

CHUNK = 1 << 18
PIECE = 1 << 20
"""Bytes that a reader of tar may ask for at once: it would take a header's word for how long a name is."""
RATIO, FREE = 200, 32 << 20
"""An archive becomes this many times larger at most; up to FREE bytes nobody asks."""
DIRECTORY = 4 << 20
"""Bytes of a zip's directory: it is read whole."""
_ZIP_END, _ZIP64 = b"PK\x05\x06", b"PK\x06\x07"
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, ValueError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """A file of the archive, while it is its turn."""

    path: str
    executable: bool
    size: int
    content: IO[bytes]


@dataclass(frozen=True)
class Contents:
    """What an archive unpacks to."""

    files: tuple[str, ...]
    size: int


def look(archive: IO[bytes]) -> Contents:
    """What is in it, with every byte read.

    Raises:
        BundleInvalid: it is no archive, or one that nobody should unpack.
    """
    return _walk(archive, lambda member: None)


def unpack(archive: IO[bytes], folder: Path) -> Contents:
    """Write its files into a folder that is there, is empty, and is nobody else's.

    Raises:
        BundleInvalid: as `look` says it. The folder then has some of the files.
    """

    def create(member: Member) -> int:
        path = folder / member.path
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return os.open(path, flags, 0o555 if member.executable else 0o444)

    return _walk(archive, create)


class _Paths:
    """The paths of an archive so far."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._folders: dict[str, str] = {}
        self._files: dict[str, str] = {}

    def add(self, path: str) -> None:
        if (why := path_mistake(path)) is not None:
            _refuse(f"The path {path[:200]!r} {why}.")
        if len(self.files) >= MAX_FILES:
            _refuse(f"A bundle has {MAX_FILES} files at most.")
        parts = path.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            known = folded(above)
            self._differs(above, self._files.get(known))
            if (other := self._folders.setdefault(known, above)) != above:
                self._differs(above, other)
        known = folded(path)
        self._differs(path, self._files.get(known) or self._folders.get(known))
        self._files[known] = path
        self.files.append(path)

    def _differs(self, path: str, other: str | None) -> None:
        if other is not None:
            _refuse(f"{other[:200]!r} and {path[:200]!r} are one path, at least on some disks.")


def _walk(archive: IO[bytes], create: Callable[[Member], int | None]) -> Contents:
    size = archive.seek(0, os.SEEK_END)
    archive.seek(0)
    head = archive.read(4)
    archive.seek(0)
    paths, budget = _Paths(), _Budget(min(MAX_UNPACKED, max(FREE, RATIO * size)))
    try:
        for member in _zip_members(archive, size) if head[:2] == b"PK" else _tar_members(archive, head, budget):
            paths.add(member.path)
            _copy(member, create(member), budget if head[:2] == b"PK" else None)
            budget.files += member.size
    except _BROKEN as exc:
        raise BundleInvalid(f"This is no whole archive: {exc}"[:500]) from exc
    if not paths.files:
        _refuse("The archive has no file.")
    return Contents(tuple(paths.files), budget.files)


def _copy(member: Member, descriptor: int | None, budget: "_Budget | None") -> None:
    with open(os.devnull if descriptor is None else descriptor, "wb") as into:
        left = member.size
        while left and (chunk := member.content.read(min(CHUNK, left))):
            left -= len(chunk)
            if budget is not None:
                budget.take(len(chunk))
            into.write(chunk)
    if left or member.content.read(1):
        _refuse(f"The file {member.path[:200]!r} is not as long as the archive says.")


@dataclass
class _Budget:
    """Bytes that the archive may still become."""

    left: int
    files: int = 0

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            _refuse(f"The archive unpacks to more than {MAX_UNPACKED >> 20} MiB, or to {RATIO} times its own size.")


class _Unpacked(io.RawIOBase):
    """The bytes of a tar as they are unpacked: forward only, counted, and in pieces."""

    def __init__(self, packed: gzip.GzipFile, budget: _Budget) -> None:
        self._packed = packed
        self._budget = budget
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= PIECE:
            _refuse("A header of the archive is too long.")
        found = self._packed.read(size)
        self._at += len(found)
        self._budget.take(len(found))
        return found

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET or offset < self._at:
            _refuse("The archive leads back into itself.")
        while self._at < offset and self.read(min(CHUNK, offset - self._at)):
            pass
        return self._at


def _tar_members(archive: IO[bytes], head: bytes, budget: _Budget) -> Iterator[Member]:
    if head[:2] != b"\x1f\x8b":
        _refuse("A bundle is a tar that gzip has packed, or a zip.")
    # The archive's own sizes and paths are checked by us; what it says beside that is not used.
    packed = gzip.GzipFile(fileobj=archive, mode="rb")
    with packed, tarfile.open(fileobj=_Unpacked(packed, budget), mode="r:") as tar:  # type: ignore[call-overload]
        for number, info in enumerate(_each(tar)):
            if number > 2 * MAX_FILES:
                _refuse(f"A bundle has {MAX_FILES} files at most.")
            path = info.name.removeprefix("./")
            if info.isdir():
                if path.rstrip("/") not in ("", ".") and (why := path_mistake(path.rstrip("/"))) is not None:
                    _refuse(f"The path {path[:200]!r} {why}.")
                continue
            if not info.isreg() or info.sparse is not None:
                _refuse(f"{path[:200]!r} is no plain file: a bundle has no links and no devices.")
            content = tar.extractfile(info)
            assert content is not None  # of a plain file it is one
            yield Member(path, bool(info.mode & 0o111), info.size, content)
        assert tar.fileobj is not None
        while tar.fileobj.read(CHUNK):  # to its end, where the sum over all of it stands
            pass


def _each(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # a list of all would be kept otherwise
        yield info


def _zip_members(archive: IO[bytes], size: int) -> Iterator[Member]:
    tail = min(size, (1 << 16) + 22)
    archive.seek(size - tail)
    end = archive.read(tail)
    at = end.rfind(_ZIP_END)
    if at < 0 or len(end) - at < 22 or _ZIP64 in end[max(0, at - 20) : at]:
        _refuse("This is no whole zip of less than 4 GiB.")
    if int.from_bytes(end[at + 12 : at + 16], "little") > DIRECTORY:
        _refuse(f"A bundle has {MAX_FILES} files at most.")
    archive.seek(0)
    with zipfile.ZipFile(archive) as found:
        for info in found.infolist():
            path, mode = info.orig_filename.removeprefix("./"), info.external_attr >> 16
            if info.flag_bits & 1:
                _refuse("The archive wants a password.")
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(f"{path[:200]!r} is no plain file: a bundle has no links and no devices.")
            if path.endswith("/"):
                if (why := path_mistake(path.rstrip("/"))) is not None:
                    _refuse(f"The path {path[:200]!r} {why}.")
                continue
            with found.open(info) as content:
                yield Member(path, bool(mode & 0o111), info.file_size, content)


def _refuse(why: str) -> NoReturn:
    raise BundleInvalid(why)
