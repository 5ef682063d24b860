"""Signatures that S3 takes, and uploads that nobody finishes."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from kit.blobs import BlobStore
from kit.s3 import Bucket, Credentials, Upload, bucket_of
from kit.testing_s3 import Seaweed

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
HOUR = timedelta(hours=1)


def test_a_signature_is_the_one_that_its_specification_gives_as_an_example() -> None:
    bucket = bucket_of("s3://examplebucket", KEYS, address="https://examplebucket.s3.amazonaws.com/")
    assert bucket is not None
    url = bucket.signed("GET", "test.txt", expires=24 * HOUR, now=datetime(2013, 5, 24, tzinfo=UTC))
    assert url.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize(
    ("url", "environ", "address", "prefix"),
    [
        ("s3://blue", {}, "https://blue.s3.us-east-1.amazonaws.com", ""),
        ("s3://blue/a/b/", {"AWS_DEFAULT_REGION": "eu-west-1"}, "https://blue.s3.eu-west-1.amazonaws.com", "a/b/"),
        ("s3://blue", {"AWS_ENDPOINT": "http://s3:8333/"}, "http://s3:8333/blue", ""),
        ("s3://blue", {"AWS_ENDPOINT_URL_S3": "http://a", "AWS_ENDPOINT": "http://b"}, "http://a/blue", ""),
        (
            "s3://blue",
            {"AWS_ENDPOINT_URL": "https://blue.s3", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            "https://blue.s3",
            "",
        ),
    ],
)
def test_a_bucket_is_where_obstore_finds_it(url: str, environ: dict[str, str], address: str, prefix: str) -> None:
    bucket = bucket_of(url, KEYS | environ)
    assert bucket is not None
    assert (bucket.address, bucket.prefix) == (address, prefix)


def test_nobody_signs_without_keys_and_keys_show_themselves_nowhere() -> None:
    assert bucket_of("s3://blue", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}) is None
    bucket = bucket_of("s3://blue", KEYS | {"AWS_SESSION_TOKEN": "of a while"})
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in repr(bucket)
    assert "of a while" not in repr(bucket)
    assert bucket is not None
    assert "&X-Amz-Security-Token=of%20a%20while" in bucket.signed("GET", "x", expires=HOUR, now=datetime.now(UTC))


WRITER = """
import asyncio, sys
from kit.blobs import BlobStore

async def endless():
    for number in range(1 << 40):
        yield bytes(1 << 20)
        if number == 12:
            print("under way", flush=True)
            await asyncio.Event().wait()

asyncio.run(BlobStore(sys.argv[1], "ingest").stage(endless(), 1 << 50))
"""


def kill_a_writer(url: str, env: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, env={**os.environ, **env}
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"under way\n"
        writer.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("where", ["s3_url", "objects_url"])
async def test_what_a_killed_writer_left_is_not_there_for_anybody_and_goes(
    where: str, request: pytest.FixtureRequest, seaweed: Seaweed
) -> None:
    url: str = request.getfixturevalue(where)
    kill_a_writer(url, seaweed.env)
    store = BlobStore(url, "ingest")
    assert await store.remove_stale(datetime.now(UTC) - HOUR) == 0
    assert await store.remove_stale(datetime.now(UTC) + HOUR) == 1
    assert await store.remove_stale(datetime.now(UTC) + HOUR) == 0


async def test_many_uploads_are_found_page_by_page() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        more = "key-marker" not in request.url.params
        said = f"<IsTruncated>{str(more).lower()}</IsTruncated><NextKeyMarker>k&amp;</NextKeyMarker>"
        said += "<NextUploadIdMarker>u</NextUploadIdMarker>"
        said += f"<Upload><Key>in/{'ab'[more]}&amp;</Key><UploadId>1</UploadId><Initiated>2026-01-02T03:04:05.000Z"
        return httpx2.Response(200, text=said + "</Initiated></Upload>")

    bucket = Bucket("http://s3/blue", "in/", Credentials("a", "b", "here"))
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        found = [upload async for upload in bucket.uploads(client, "staging/")]
    assert [upload.key for upload in found] == ["b&", "a&"]
    assert [(each.get("key-marker"), each["prefix"]) for each in asked] == [
        (None, "in/staging/"),
        ("k&", "in/staging/"),
    ]


async def test_an_upload_that_ended_meanwhile_needs_no_end(seaweed: Seaweed) -> None:
    bucket = bucket_of(seaweed.url, seaweed.env)
    assert bucket is not None
    async with httpx2.AsyncClient() as client:
        await bucket.give_up(client, Upload("nothing", "0" * 32, datetime.now(UTC)))
