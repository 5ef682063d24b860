"""Stored bytes as a file that a check seeks in."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from concurrent.futures import Future
from datetime import timedelta

import pytest
from model_files import SOUND, field, onnx, tensor

from kit import errors
from kit.blobs import BlobStore
from kit.testing_objects import Objects
from registry.actions import take_in
from registry.domain.formats import FormatMismatch
from registry.domain.manifests import File
from registry.store import contents
from registry.store.contents import BlobFile, look_into
from registry.testing import digest_of


async def stored(store: BlobStore, data: bytes, format: str = "onnx") -> File:
    async def whole() -> AsyncIterator[bytes]:
        yield data

    await take_in(store, "demo", digest_of(data), whole(), 1 << 30)
    return File.model_validate({"format": format, "path": "m.bin", "digest": digest_of(data), "size": len(data)})


async def test_it_reads_as_a_file_does(store: BlobStore) -> None:
    data = bytes(range(256)) * 1000
    content = BlobFile(store, "demo", await stored(store, data), asyncio.get_running_loop())
    plain = io.BytesIO(data)

    def compare() -> None:
        assert (content.readable(), content.seekable(), content.tell()) == (True, True, 0)
        with io.BufferedReader(content, 100) as reader:
            for offset, whence, length in ((0, os.SEEK_SET, 10), (255_990, os.SEEK_SET, 50), (-20, os.SEEK_END, 5)):
                assert reader.seek(offset, whence) == plain.seek(offset, whence)
                assert reader.read(length) == plain.read(length)
            assert reader.seek(7, os.SEEK_CUR) == plain.seek(7, os.SEEK_CUR)
            assert reader.read() == plain.read()
            with pytest.raises(ValueError, match="before the beginning"):
                content.seek(-1)

    await asyncio.to_thread(compare)


async def test_weights_are_stepped_over(store: BlobStore) -> None:
    """Of 32 MB, what is read is the pieces between the weights."""
    data = onnx(inside=b"".join(field(5, tensor(data=bytes(1 << 20))) for _ in range(32)))
    file = await stored(store, data)
    read = 0

    class Counting(BlobStore):
        def part(self, project: str, digest: str, start: int, length: int) -> AsyncIterator[bytes]:
            nonlocal read
            read += length
            return store.part(project, digest, start, length)

    counting = Counting.__new__(Counting)
    await look_into(counting, "demo", file, "#")
    assert read <= 40 * contents.PIECE


async def test_what_is_read_in_too_many_pieces_or_at_once_is_refused(store: BlobStore) -> None:
    file = await stored(store, onnx(inside=b"".join(field(5, tensor(data=bytes(1 << 17))) for _ in range(8))))
    with pytest.raises(FormatMismatch, match="too long"):
        await look_into(store, "demo", file, "#", most=3)
    with pytest.raises(FormatMismatch, match="too long"):
        await look_into(store, "demo", file, "#", longest=100)


async def test_bytes_that_are_gone_are_no_matter_of_their_format(store: BlobStore, objects_url: str) -> None:
    file = await stored(store, SOUND["skops"], "skops")
    [key] = Objects(objects_url).keys()
    Objects(objects_url).remove(key)
    with pytest.raises(errors.Corrupt):
        await look_into(store, "demo", file, "#")


def test_a_store_that_says_nothing_is_not_waited_for_without_end() -> None:
    read: Future[bytes] = Future()
    with pytest.raises(errors.Unavailable):
        contents._result_of(read, timedelta(0))
    assert read.cancelled()
