"""Stored bytes as a file that can be sought in: of half a gigabyte, the few pieces that are looked at are read."""

import asyncio
import io
import os
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from kit import errors
from kit.blobs import BlobStore
from registry.domain.formats import FormatMismatch, check_content
from registry.domain.manifests import File

PIECE = 1 << 16
MOST_READS = 16_384
LONGEST_READ = 64 << 20
PATIENCE = timedelta(seconds=60)


async def look_into(
    store: BlobStore, project: str, file: File, place: str, *, most: int = MOST_READS, longest: int = LONGEST_READ
) -> None:
    """Look whether stored bytes are of the format that a manifest says.

    Raises:
        UnsafeModel, FormatMismatch: they are not (registry.domain.formats).
        errors.Corrupt: they are gone, or are fewer than they were.
        errors.Unavailable: the object store does not answer.
    """
    content = BlobFile(store, project, file, asyncio.get_running_loop(), most, longest)
    # The checks are plain code over a file: in a thread, whose reads this loop makes.
    await asyncio.to_thread(_look, content, file, place)


def _look(content: "BlobFile", file: File, place: str) -> None:
    with io.BufferedReader(content, PIECE) as reader:
        check_content(file, reader, place)


class BlobFile(io.RawIOBase):
    """Read in a thread beside `loop`. What would be read in too many pieces, or in too large ones, is refused."""

    def __init__(
        self,
        store: BlobStore,
        project: str,
        file: File,
        loop: asyncio.AbstractEventLoop,
        most: int = MOST_READS,
        longest: int = LONGEST_READ,
    ) -> None:
        super().__init__()
        self._store, self._project, self._file, self._loop = store, project, file, loop
        self._at = 0
        self._reads, self._longest = most, longest

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if start + offset < 0:
            raise ValueError("before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._file.size - self._at)
        if length <= 0:
            return 0
        self._reads -= 1
        if self._reads < 0 or length > self._longest:
            raise FormatMismatch(f"{self._file.path} is built in a way that takes too long to look into.")
        data = _result_of(asyncio.run_coroutine_threadsafe(self._part(length), self._loop))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    async def _part(self, length: int) -> bytes:
        part = self._store.part(self._project, self._file.digest, self._at, length)
        return b"".join([chunk async for chunk in part])


def _result_of(read: "Future[bytes]", patience: timedelta = PATIENCE) -> bytes:
    try:
        return read.result(patience.total_seconds())
    except TimeoutError:
        # Not as the OSError that it is: zipfile would take that for a damaged archive.
        read.cancel()
        raise errors.Unavailable("The object store does not answer.") from None
