"""Blobs in a folder and in S3: the same tests on both."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore import store as stores
from obstore.exceptions import AlreadyExistsError

from kit import errors
from kit.blob_store import PART
from kit.blobs import Blob, BlobStore, Staged

pytestmark = pytest.mark.anyio
LATER = datetime.now(UTC) + timedelta(days=2)
ENOUGH = 1 << 40


@pytest.fixture(params=["folder", "S3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3_url")) if request.param == "S3" else tmp_path.as_uri()


@pytest.fixture
def store(url: str) -> BlobStore:
    return BlobStore(url, "ingest")


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def receive(stream: AsyncIterator[bytes], into: bytearray) -> None:
    async for chunk in stream:
        into += chunk


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def put(store: BlobStore, *parts: bytes, project: str = "blue") -> Blob:
    return await store.publish(project, await store.stage(chunks(*parts), ENOUGH))


async def objects(store: BlobStore) -> list[str]:
    return [found.key async for page in store.blobs() for found in page]


def raw_of(url: str) -> stores.ObjectStore:
    if url.startswith("s3"):
        return stores.S3Store.from_url(url, copy_if_not_exists="multipart", client_options={"allow_http": True})
    return stores.from_url(url)


async def damage(url: str, key: str, data: bytes) -> None:
    """Write behind our back."""
    raw = raw_of(url)
    await obstore.delete_async(raw, key)
    await obstore.put_async(raw, key, data)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"x"],
        [b"one", b"two"],
        [b"z" * (PART - 1)],
        [b"z" * PART],
        [b"z" * (PART - 1), b"yx"],
        [b"z" * (1 << 20)] * 11 + [b"end"],
    ],
    ids=["none", "one", "two", "a part less one", "a part", "a part and one", "several parts"],
)
async def test_a_published_blob_reads_back(store: BlobStore, parts: list[bytes]) -> None:
    data = b"".join(parts)
    blob = await put(store, *parts)
    assert blob == Blob(digest_of(data), len(data))
    assert await store.read("blue", blob.digest) == data
    assert await store.check("blue", blob.digest) == len(data)
    [key] = await objects(store)
    hexadecimal = blob.digest.removeprefix("sha256:")
    assert key == f"blobs/{store.service}/blue/sha256/{hexadecimal[:2]}/{hexadecimal}"


async def test_the_same_bytes_twice_are_one_object_and_leave_nothing_staged(store: BlobStore) -> None:
    assert await put(store, b"same") == await put(store, b"sa", b"me")
    assert len(await objects(store)) == 1
    assert await store.remove_stale(LATER) == 0


async def test_projects_share_no_object(store: BlobStore) -> None:
    await put(store, b"same")
    await put(store, b"same", project="red")
    assert len(await objects(store)) == 2


RACER = """
import asyncio, sys
from kit.blobs import BlobStore

async def main():
    store = BlobStore(sys.argv[1], "ingest")

    async def same():
        yield b"the same bytes" * 100_000

    staged = [await store.stage(same(), 1 << 40) for _ in range(4)]
    print("ready", flush=True)
    sys.stdin.readline()
    for blob in await asyncio.gather(*(store.publish("blue", each) for each in staged)):
        print(blob.digest, flush=True)

asyncio.run(main())
"""


async def test_sixteen_writers_of_the_same_bytes_in_four_processes_make_one_object(store: BlobStore, url: str) -> None:
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", RACER, url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    said = b"".join([out for out, _ in await asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))])
    data = b"the same bytes" * 100_000
    assert said.decode().split() == [digest_of(data)] * 16
    assert len(await objects(store)) == 1
    assert await store.read("blue", digest_of(data)) == data
    assert await store.remove_stale(LATER) == 0


async def test_of_many_copies_to_a_name_one_is_there_whole_and_who_lost_knows(url: str) -> None:
    """With other bytes each, which never happens: SeaweedFS has let several win on a machine with much to do."""
    raw, data = raw_of(url), [bytes([number]) * 70_000 for number in range(16)]
    for number in range(16):
        await obstore.put_async(raw, f"staging/{number}", data[number])

    async def copy(number: int) -> int | None:
        try:
            await obstore.copy_async(raw, f"staging/{number}", "blobs/one", overwrite=False)
        except AlreadyExistsError:
            return None
        return number

    won = [number for number in await asyncio.gather(*map(copy, range(16))) if number is not None]
    assert bytes(await (await obstore.get_async(raw, "blobs/one")).bytes_async()) in [data[number] for number in won]
    assert await copy(0) is None
    if not url.startswith("s3"):
        assert len(won) == 1


@pytest.mark.parametrize(
    ("start", "length"), [(0, 1), (0, 10), (9, 1), (3, 4), (PART - 1, 2), (PART, 5), (0, PART + 5)], ids=str
)
async def test_a_part_is_these_bytes_and_no_others(store: BlobStore, start: int, length: int) -> None:
    data = bytes(range(256)) * (PART // 256) + b"tail!"
    blob = await put(store, data)
    received = bytearray()
    await receive(store.part("blue", blob.digest, start, length), received)
    assert received == data[start : start + length]


async def test_a_part_that_ends_too_early_or_is_gone_is_corrupt(store: BlobStore, url: str) -> None:
    blob = await put(store, b"ten  bytes")
    for damaged in (b"nine byte", None):
        if damaged is None:
            await store.delete("blue", blob.digest)
        else:
            await damage(url, store.key_of("blue", blob.digest), damaged)
        with pytest.raises(errors.Corrupt):
            await receive(store.part("blue", blob.digest, 5, 5), bytearray())


async def test_more_objects_than_a_page_has_are_listed(store: BlobStore, url: str) -> None:
    raw, names = raw_of(url), [digest_of(str(number).encode()) for number in range(1030)]
    for start in range(0, len(names), 103):
        keys = [store.key_of("blue", name) for name in names[start : start + 103]]
        await asyncio.gather(*(obstore.put_async(raw, key, b"") for key in keys))
    pages = [page async for page in store.blobs()]
    assert len(pages) > 1
    assert {found.digest for page in pages for found in page} == set(names)


@pytest.mark.parametrize("project", ["a", "0", "a.b", "a-b", "a_b", "x" * 63, "con", "blobs"])
async def test_a_project_may_be_called_what_projects_may_be_called(store: BlobStore, project: str) -> None:
    blob = await put(store, b"bytes", project=project)
    assert await store.read(project, blob.digest) == b"bytes"
    [[found]] = [page async for page in store.blobs()]
    assert (found.project, found.digest) == (project, blob.digest)


async def test_too_many_bytes_leave_nothing(store: BlobStore) -> None:
    with pytest.raises(errors.TooLarge):
        await store.stage(chunks(b"x" * 6, b"y" * 5), 10)
    assert await store.remove_stale(LATER) == 0


async def test_more_than_the_store_can_copy_is_refused_while_it_comes(store: BlobStore, s3_url: str) -> None:
    assert BlobStore(s3_url, "ingest").largest == 5 << 30
    store.largest = 10
    with pytest.raises(errors.TooLarge):
        await store.stage(chunks(b"x" * 6, b"y" * 5), ENOUGH)


async def test_a_stream_that_breaks_off_leaves_nothing(store: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100
        raise ConnectionAbortedError

    with pytest.raises(errors.Unavailable):
        await store.stage(broken(), ENOUGH)
    assert await store.remove_stale(LATER) == 0


async def test_a_flipped_byte_is_never_served(store: BlobStore, url: str, tmp_path: Path) -> None:
    data = b"a" * (3 << 20)
    blob = await put(store, data)
    await damage(url, store.key_of("blue", blob.digest), b"b" + data[1:])
    with pytest.raises(errors.Corrupt):
        await store.check("blue", blob.digest)
    with pytest.raises(errors.Corrupt):
        await store.read("blue", blob.digest)
    with pytest.raises(errors.Corrupt):
        await store.fetch("blue", blob.digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    received = bytearray()
    with pytest.raises(errors.Corrupt):
        await receive(store.stream("blue", blob.digest), received)
    assert len(received) < len(data)


async def test_publishing_the_right_bytes_repairs_damaged_ones(store: BlobStore, url: str) -> None:
    blob = await put(store, b"good")
    await damage(url, store.key_of("blue", blob.digest), b"evil")
    await put(store, b"good")
    assert await store.read("blue", blob.digest) == b"good"


async def test_staged_bytes_that_are_not_what_was_sent_get_no_name(store: BlobStore, url: str) -> None:
    staged = await store.stage(chunks(b"good"), ENOUGH)
    await damage(url, staged.key, b"evil")
    with pytest.raises(errors.Corrupt):
        await store.publish("blue", staged)


async def test_missing_bytes_are_corrupt(store: BlobStore) -> None:
    with pytest.raises(errors.Corrupt):
        await store.read("blue", digest_of(b"never"))


async def test_a_fetched_blob_is_a_new_file(store: BlobStore, tmp_path: Path) -> None:
    blob = await put(store, b"bytes")
    assert await store.fetch("blue", blob.digest, tmp_path / "copy") == 5
    assert (tmp_path / "copy").read_bytes() == b"bytes"
    with pytest.raises(FileExistsError):
        await store.fetch("blue", blob.digest, tmp_path / "copy")


async def test_what_is_deleted_is_gone_and_deleting_it_again_is_fine(store: BlobStore) -> None:
    blob = await put(store, b"bytes")
    await store.delete("blue", blob.digest)
    await store.delete("blue", blob.digest)
    assert await objects(store) == []


async def test_only_stale_staged_bytes_are_removed(store: BlobStore) -> None:
    staged = await store.stage(chunks(b"bytes"), ENOUGH)
    assert await store.remove_stale(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await store.remove_stale(LATER) == 1
    with pytest.raises(errors.Unavailable):
        await store.publish("blue", staged)


@pytest.mark.parametrize("project", ["", "..", "a/b", "a..b", "A", "/x", "#1"])
async def test_a_project_cannot_name_another_place(store: BlobStore, project: str) -> None:
    with pytest.raises(ValueError, match="not a digest, or not a project"):
        store.key_of(project, digest_of(b""))


@pytest.mark.parametrize("digest", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "A" * 64, "sha256:../../x"])
async def test_a_digest_cannot_name_another_place(store: BlobStore, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest, or not a project"):
        store.key_of("blue", digest)


async def test_objects_of_strange_names_are_listed_without_a_digest(store: BlobStore, url: str) -> None:
    raw = raw_of(url)
    await obstore.put_async(raw, f"blobs/{store.service}/blue/notes.txt", b"x")
    [[found]] = [page async for page in store.blobs()]
    assert (found.project, found.digest) == (None, None)


async def test_bytes_that_are_collected_while_they_are_published_are_to_be_sent_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path.as_uri(), "ingest")
    path = tmp_path / store.key_of("blue", digest_of(b"bytes"))
    path.parent.mkdir(parents=True)
    path.symlink_to("deleted")  # there for the copy, gone for the reading back
    with pytest.raises(errors.Unavailable):
        await put(store, b"bytes")


async def test_what_a_dead_writer_left_in_a_folder_is_removed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path.as_uri(), "ingest")
    blob = await put(store, b"bytes")
    path = tmp_path / store.key_of("blue", blob.digest)
    left = path.with_name(f"{path.name}#1")
    left.write_bytes(b"half")
    assert await store.remove_stale(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await store.remove_stale(LATER) == 1
    assert not left.exists()
    assert path.exists()


def test_staged_bytes_are_told_apart_by_key() -> None:
    assert Staged("a", "sha256:x", 1) != Staged("b", "sha256:x", 1)
