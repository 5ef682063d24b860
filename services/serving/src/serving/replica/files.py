"""The files of models on this machine: under the digest that they were verified to have, and nothing else."""

import asyncio
import hashlib
import os
import stat
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

from kit import errors
from serving.domain.revisions import Target

FOLDER = "models"
STATE = "served.json"
IDENTITY = "replica"
PRIVATE = 0o700
THREADS = 2
BLOCK = 1 << 20
"""Bytes that are hashed and written at one time."""
Given = TypeVarTuple("Given")
Made = TypeVar("Made")


class ArtifactCorrupt(errors.Corrupt):
    """Bytes are not those that the model version was registered with."""


class ModelTooLarge(errors.TooLarge):
    """A file of a model is larger than this server takes."""


class Source(Protocol):
    """Where files come from."""

    def file(
        self, project: str, model: str, version: int, path: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class Files:
    """A folder of verified files. Whoever reads one verifies it again: a disk may change what it keeps."""

    def __init__(self, work: Path, source: Source, *, largest: int) -> None:
        self._work = work
        self._folder = work / FOLDER
        self._source = source
        self._largest = largest
        self._kept: bytes | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    def prepare(self) -> None:
        """Make the folder, for this user alone. One that another has made, as a volume's is, is left as it is."""
        for folder in (self._work, self._folder):
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            found = folder.stat()
            if stat.S_IMODE(found.st_mode) != PRIVATE and found.st_uid == os.geteuid():
                folder.chmod(PRIVATE)
        with suppress(OSError):  # a disk that takes nothing still has what is served
            for leftover in self._folder.glob("*.part"):
                leftover.unlink()

    @property
    def folder(self) -> Path:
        """Where all of them are."""
        return self._folder

    def path(self, digest: str) -> Path:
        """Where the file of this digest is, if it is here."""
        return self._folder / digest.removeprefix("sha256:")

    async def read(self, project: str, target: Target) -> bytes:
        """The bytes of the target's file, verified: from here, or else from the registry.

        Raises:
            ArtifactCorrupt: neither has the right ones.
            ModelTooLarge: it has too many bytes.
            errors.Unavailable: they are not here, and the registry is away.
        """
        content = await self._beside(self._read, target.file.digest)
        if content is None:
            await self._fetch(project, target)
            content = await self._beside(self._read, target.file.digest)
        if content is None:
            raise ArtifactCorrupt(f"The file {target.file.path} of {target.reference} does not stay as it was written.")
        return content

    async def _beside(self, work: Callable[[*Given], Made], *given: *Given) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    def close(self) -> None:
        """Nobody reads any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, digest: str) -> bytes | None:
        path = self.path(digest)
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            if digest == f"sha256:{hashlib.sha256(content).hexdigest()}":
                with suppress(OSError):
                    os.utime(path)
                return content
            with suppress(OSError):
                path.unlink()
        return None

    async def _fetch(self, project: str, target: Target) -> None:
        file = target.file
        if file.size > self._largest:
            raise ModelTooLarge(f"The file {file.path} of {target.reference} has more than {self._largest} bytes.")
        part = self._folder / f"{uuid.uuid4()}.part"
        try:
            digest = await self._receive(project, target, part)
            if digest != file.digest:
                raise ArtifactCorrupt(f"The file {file.path} of {target.reference} is {digest}, not {file.digest}.")
            await self._beside(_keep, part, self.path(file.digest))
        finally:
            part.unlink(missing_ok=True)

    async def _receive(self, project: str, target: Target, part: Path) -> str:
        file, hashed, size = target.file, hashlib.sha256(), 0
        block = bytearray()

        def take() -> None:
            hashed.update(block)
            out.write(block)
            block.clear()

        async with self._source.file(project, target.model, target.version, file.path) as chunks:
            with await self._beside(part.open, "xb") as out:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > file.size:
                        raise ArtifactCorrupt(f"The file {file.path} of {target.reference} has too many bytes.")
                    block += chunk
                    if len(block) >= BLOCK:
                        await self._beside(take)
                await self._beside(take)
        return f"sha256:{hashed.hexdigest()}"

    def sweep(self, keep: Collection[str], age: timedelta) -> int:
        """Remove files that no one needed for so long. Says how many."""
        kept = {self.path(digest) for digest in keep}
        old = [path for path in self._folder.iterdir() if path not in kept and _age(path) > age.total_seconds()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def remember(self, content: bytes) -> None:
        """Keep what is served now, for a start without anybody; nothing is written if it is what was kept.

        Raises:
            OSError: the disk is full, or may only be read.
        """
        if content == self._kept:
            return
        part = self._work / f"{STATE}.part"
        part.write_bytes(content)
        _keep(part, self._work / STATE)
        self._kept = content

    def remembered(self) -> bytes | None:
        """What was served when this process ended last."""
        with suppress(FileNotFoundError):
            self._kept = (self._work / STATE).read_bytes()
        return self._kept

    def identity(self) -> uuid.UUID:
        """Who this replica is: the same after a restart, so that nobody waits for the one before."""
        path = self._work / IDENTITY
        with suppress(FileNotFoundError, ValueError):
            return uuid.UUID(path.read_text())
        made = uuid.uuid4()
        part = path.with_suffix(".part")
        with suppress(OSError):  # then it is another one after a restart, which costs a wait
            part.write_text(str(made))
            _keep(part, path)
        return made


def _keep(part: Path, path: Path) -> None:
    """Give a whole file its name, to stay through a loss of power too."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _age(path: Path) -> float:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0
