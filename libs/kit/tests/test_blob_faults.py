"""An S3 that is slow, busy, cut off, away, or refuses us: Unavailable, in bounded time, and nothing half made."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kit import errors
from kit.blobs import BlobStore
from kit.testing import eventually
from kit.testing_s3 import Seaweed

from .faults import Fault, Proxy
from .test_blob_store import ENOUGH, chunks, digest_of, objects, put, receive

DATA = b"z" * (6 << 20)
"""Of two parts."""
SHORT = timedelta(seconds=1)
BOUND = 30.0
"""Four seconds on a machine that does nothing else: two more tries, and what obstore waits between them."""
BAD = [fault for fault in Fault if fault is not Fault.NONE]
LATER = datetime.now(UTC) + timedelta(days=2)


@pytest.fixture
async def proxy(seaweed: Seaweed) -> AsyncIterator[Proxy]:
    port = urlsplit(seaweed.endpoint).port
    assert port is not None
    async with Proxy(port).running() as proxy:
        yield proxy


@pytest.fixture
def faulty(proxy: Proxy, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """The store by way of the proxy."""
    with monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
        return BlobStore(s3_url, "ingest", patience=SHORT)


@pytest.fixture
def store(seaweed: Seaweed, s3_url: str) -> BlobStore:
    """The same objects, without faults."""
    return BlobStore(s3_url, "ingest")


async def test_the_proxy_does_nothing_by_itself(faulty: BlobStore, store: BlobStore) -> None:
    blob = await put(faulty, DATA)
    assert await store.read("blue", blob.digest) == DATA
    assert await faulty.read("blue", blob.digest) == DATA


@pytest.mark.parametrize("fault", BAD, ids=lambda fault: fault.name.lower())
async def test_reading_ends_in_bounded_time_and_never_too_early(
    proxy: Proxy, faulty: BlobStore, store: BlobStore, fault: Fault
) -> None:
    blob = await put(store, DATA)
    proxy.fault = fault
    received, began = bytearray(), time.monotonic()
    with pytest.raises(errors.Unavailable):
        await receive(faulty.stream("blue", blob.digest), received)
    assert time.monotonic() - began < BOUND
    assert len(received) < len(DATA)
    proxy.fault = Fault.NONE
    assert await faulty.read("blue", blob.digest) == DATA


@pytest.mark.parametrize(
    ("fault", "size"),
    [(Fault.SILENT, len(DATA)), (Fault.RESETS, len(DATA)), (Fault.SLOW_DOWN, len(DATA)), (Fault.SLOW_DOWN, 10)],
)
async def test_what_is_sent_and_not_taken_makes_nothing(
    proxy: Proxy, faulty: BlobStore, store: BlobStore, fault: Fault, size: int
) -> None:
    proxy.fault = fault
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        await faulty.stage(chunks(DATA[:size]), ENOUGH)
    assert time.monotonic() - began < BOUND
    proxy.fault = Fault.NONE
    staged = await faulty.stage(chunks(DATA[:size]), ENOUGH)
    proxy.fault = fault
    with pytest.raises(errors.Unavailable):
        await faulty.publish("blue", staged)
    assert await objects(store) == []
    proxy.fault = Fault.NONE
    await faulty.publish("blue", staged)
    assert await store.read("blue", staged.digest) == DATA[:size]
    await store.remove_stale(LATER)
    assert await store.remove_stale(LATER) == 0


@pytest.mark.parametrize("fault", [Fault.RESETS, Fault.SLOW_DOWN], ids=lambda fault: fault.name.lower())
async def test_deleting_and_listing_and_collecting_say_so_too(proxy: Proxy, faulty: BlobStore, fault: Fault) -> None:
    blob = await put(faulty, b"bytes")
    proxy.fault = fault
    for act in (objects(faulty), faulty.delete("blue", blob.digest), faulty.remove_stale(LATER)):
        with pytest.raises(errors.Unavailable):
            await act
    proxy.fault = Fault.NONE
    assert len(await objects(faulty)) == 1


@pytest.mark.parametrize("fault", [Fault.RESETS, Fault.SLOW_DOWN], ids=lambda fault: fault.name.lower())
async def test_a_passing_fault_is_not_noticed(proxy: Proxy, faulty: BlobStore, fault: Fault) -> None:
    blob = await put(faulty, b"bytes")
    proxy.fault, proxy.times = fault, 2
    assert await faulty.read("blue", blob.digest) == b"bytes"


async def test_a_slow_reader_is_not_cut_off(faulty: BlobStore) -> None:
    """Patience is with a store that says nothing; a reader who takes his time is his own affair."""
    blob = await put(faulty, DATA)
    stream, began = faulty.stream("blue", blob.digest), time.monotonic()
    received = len(await anext(stream))
    await eventually(lambda: time.monotonic() > began + 2 * SHORT.total_seconds())
    async for chunk in stream:
        received += len(chunk)
    assert received == len(DATA)


async def hint_of(store: BlobStore) -> str:
    with pytest.raises(errors.Unavailable) as of_reading:
        await store.read("blue", digest_of(b""))
    with pytest.raises(errors.Unavailable) as of_listing:
        await objects(store)
    assert of_reading.value.extra == of_listing.value.extra
    return str(of_reading.value.extra["hint"])


async def test_a_bucket_that_is_not_there_is_no_lost_bytes_and_names_the_setting(seaweed: Seaweed) -> None:
    assert "OBJECTS_URL" in await hint_of(BlobStore("s3://nowhere", "ingest"))


async def test_wrong_keys_name_the_setting_and_not_the_keys(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "let-me-in")
    hint = await hint_of(BlobStore(s3_url, "ingest"))
    assert "AWS_SECRET_ACCESS_KEY" in hint
    assert "let-me-in" not in hint


async def test_a_store_that_is_away_names_the_setting(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    assert "AWS_ENDPOINT" in await hint_of(BlobStore(s3_url, "ingest"))


async def test_a_folder_that_cannot_be_written_to_is_unavailable(tmp_path: Path) -> None:
    store = BlobStore(tmp_path.as_uri(), "ingest")
    (tmp_path / "staging").write_bytes(b"a file where a folder belongs")
    with pytest.raises(errors.Unavailable):
        await store.stage(chunks(b"bytes"), ENOUGH)
