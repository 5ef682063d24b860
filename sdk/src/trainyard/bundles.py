"""A folder of code as one archive: the same files are the same bytes, whoever packs them and whenever."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from trainyard.errors import TrainyardError

MAX_BYTES = 64 << 20
MAX_FILES = 10_000
LEFT_OUT = (
    *(".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    *(".ipynb_checkpoints", ".DS_Store", "trainyard-run", "node_modules"),
)
"""What is no part of a bundle. More of it stands in a file `.trainyardignore`, a pattern a line."""
IGNORE_FILE = ".trainyardignore"


class NotABundle(TrainyardError):
    """What is to be sent cannot be, and why; nothing was sent."""


@dataclass(frozen=True)
class Packed:
    """An archive, and the name that it has by its bytes."""

    digest: str
    content: bytes
    files: int


def pack(folder: Path) -> Packed:
    """A folder, or a single Python file, as an archive.

    Raises:
        NotABundle: there is nothing to pack, a link, or too much.
    """
    files = [(folder, folder.name)] if folder.is_file() else list(_files_of(folder))
    if not files:
        raise NotABundle(f"There is no file in {folder}.")
    packed = io.BytesIO()
    # No time, no name and no owner: nothing that differs from one machine to the next.
    zipped = gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6, filename="")
    with zipped, tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, name in files:
            _add(tar, path, name)
            if packed.tell() > MAX_BYTES:
                raise NotABundle(f"A bundle has {MAX_BYTES >> 20} MiB at most; name what is no code in {IGNORE_FILE}.")
    content = packed.getvalue()
    return Packed(f"sha256:{hashlib.sha256(content).hexdigest()}", content, len(files))


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    data = path.read_bytes()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o755 if os.access(path, os.X_OK) else 0o644
    tar.addfile(info, io.BytesIO(data))


def _files_of(folder: Path) -> Iterator[tuple[Path, str]]:
    if not folder.is_dir():
        raise NotABundle(f"There is no folder {folder}.")
    ignore = folder / IGNORE_FILE
    lines = ignore.read_text().splitlines() if ignore.is_file() else []
    left_out = (
        *LEFT_OUT,
        IGNORE_FILE,
        *(line.strip().rstrip("/") for line in lines if line.strip()[:1] not in ("", "#")),
    )
    found = sorted(_walk(folder, "", left_out), key=lambda each: each[1])
    if len(found) > MAX_FILES:
        raise NotABundle(f"A bundle has {MAX_FILES} files at most, and {folder} has {len(found)}; see {IGNORE_FILE}.")
    yield from found


def _walk(folder: Path, above: str, left_out: Sequence[str]) -> Iterator[tuple[Path, str]]:
    for path in folder.iterdir():
        name = f"{above}{path.name}"
        if any(fnmatch(path.name, pattern) or fnmatch(name, pattern) for pattern in left_out):
            continue
        if path.is_symlink():
            raise NotABundle(f"{name} is a link, which a bundle has none of; copy it, or name it in {IGNORE_FILE}.")
        if path.is_dir():
            yield from _walk(path, f"{name}/", left_out)
        elif path.is_file():
            yield path, name
