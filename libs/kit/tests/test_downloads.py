"""Stored bytes as answers, on both stores: whole, or a range of what was verified."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request, Response

from kit import problems
from kit.blobs import BlobStore
from kit.downloads import VERIFIED, Downloads, Stored, span_of

from .test_blob_store import damage, digest_of, put

DATA = bytes(range(256)) * 12_000  # three pieces of the store
STORED = Stored("blue", digest_of(DATA), len(DATA), 'a "model"\r\n.skops')
ETAG = f'"{digest_of(DATA)}"'


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=3-5", (3, 3)),
        ("bytes=9-9", (9, 1)),
        ("bytes=9-", (9, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=5-99999", (5, 5)),
        ("bytes=-1", (9, 1)),
        ("bytes=-10", (0, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes = 1 - 2", (1, 2)),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=٣-", None),
        ("bytes=" + "9" * 30 + "-", None),
        ("items=0-1", None),
        ("", None),
    ],
)
def test_a_range_of_ten_bytes(header: str, span: tuple[int, int] | None) -> None:
    assert span_of(header, 10) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_where_nothing_is_there_is_no_range(header: str, size: int) -> None:
    with pytest.raises(ValueError, match="nothing there"):
        span_of(header, size)


@dataclass
class Shop:
    client: httpx2.AsyncClient
    store: BlobStore
    url: str
    now: float = 0.0

    async def get(self, headers: Mapping[str, str] | None = None, method: str = "GET") -> httpx2.Response:
        return await self.client.request(method, "/file", headers=dict(headers or {}))


@pytest.fixture(params=["objects_url", "s3_url"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    url: str = request.getfixturevalue(request.param)
    store = BlobStore(url, "ingest")
    await put(store, DATA)
    api = FastAPI()
    problems.install(api)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api), base_url="http://shop") as client:
        it = Shop(client, store, url)
        downloads = Downloads(store, clock=lambda: it.now)

        @api.api_route("/file", methods=["GET", "HEAD"])
        async def get_file(request: Request) -> Response:
            return await downloads.answer(request, STORED)

        yield it


async def test_all_of_it_is_for_saving_and_not_for_showing(shop: Shop) -> None:
    answer = await shop.get()
    assert (answer.status_code, answer.content) == (200, DATA)
    headers = answer.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == 'attachment; filename="a__model___.skops"'
    assert headers["x-content-type-options"] == "nosniff"
    assert (headers["etag"], headers["accept-ranges"]) == (ETAG, "bytes")


async def test_a_head_says_the_same_and_reads_nothing(shop: Shop) -> None:
    whole = await shop.get()
    await shop.store.delete("blue", STORED.digest)
    head = await shop.get({"range": "bytes=0-1"}, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers} == {**whole.headers}


async def test_a_download_that_broke_off_is_resumed(shop: Shop) -> None:
    answer = await shop.get({"range": f"bytes={len(DATA) - 1_500_000}-", "if-range": ETAG})
    assert (answer.status_code, answer.content) == (206, DATA[-1_500_000:])
    assert answer.headers["content-range"] == f"bytes {len(DATA) - 1_500_000}-{len(DATA) - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == "1500000"
    assert answer.headers["etag"] == ETAG


@pytest.mark.parametrize(
    "headers",
    [
        {"range": "bytes=0-1", "if-range": '"another"'},
        {"range": "bytes=0-1", "if-range": f"W/{ETAG}"},
        {"range": "bytes=0-1", "if-range": "Wed, 25 Nov 2026 05:00:00 GMT"},
        {"range": "bytes=0-1,5-6"},
        {"range": "lines=1-2"},
        {"if-none-match": '"another"'},
    ],
)
async def test_what_is_no_range_of_these_bytes_is_all_of_them(shop: Shop, headers: dict[str, str]) -> None:
    answer = await shop.get(headers)
    assert (answer.status_code, len(answer.content)) == (200, len(DATA))


async def test_a_range_behind_the_end_says_where_the_end_is(shop: Shop) -> None:
    answer = await shop.get({"range": f"bytes={len(DATA)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", f'"another", {ETAG}', "*"])
async def test_who_has_the_bytes_is_sent_none(shop: Shop, known: str) -> None:
    answer = await shop.get({"if-none-match": known})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", ETAG)


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-1"}])
async def test_damaged_or_missing_bytes_are_a_problem_and_not_a_cut_answer(shop: Shop, headers: dict[str, Any]) -> None:
    await damage(shop.url, shop.store.key_of("blue", STORED.digest), b"x" + DATA[1:])
    assert (await shop.get(headers)).status_code == 502
    await shop.store.delete("blue", STORED.digest)
    assert (await shop.get(headers)).json()["code"] == "bytes-missing"


async def test_ranges_rest_for_a_minute_on_a_reading_of_the_whole(shop: Shop) -> None:
    assert (await shop.get({"range": "bytes=0-0"})).status_code == 206
    await damage(shop.url, shop.store.key_of("blue", STORED.digest), DATA[:-1] + b"x")
    shop.now = VERIFIED - 1
    assert (await shop.get({"range": "bytes=0-0"})).content == DATA[:1]
    shop.now = VERIFIED
    assert (await shop.get({"range": "bytes=0-0"})).status_code == 502
