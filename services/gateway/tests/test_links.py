"""Signed URLs at the door: no key is needed, and nothing else is opened."""

from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from kit.blobs import BlobStore
from kit.callers import Caller, Role
from kit.downloads import Stored
from kit.links import SUBJECT, load_links
from kit.testing import KeyFolder

from .gateways import Door, bearer, caller_of

DIGEST = f"sha256:{'0' * 64}"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def link(key_folder: KeyFolder, tmp_path: Path) -> str:
    """Of the registry."""
    links = load_links(key_folder.private("registry"), BlobStore(tmp_path.as_uri(), "registry"))
    return links.link(Stored("blue", DIGEST, 10, "model.skops"), MINUTE).url


async def test_a_signed_url_reaches_its_service_without_a_key(door: Door, link: str, key_folder: KeyFolder) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as http:
        answered = await http.get(link, headers={"range": "bytes=1-2"})
    assert answered.status_code == 200
    assert answered.json()["target"] == link
    assert dict(answered.json()["headers"])["range"] == "bytes=1-2"
    assert "ratelimit" in answered.headers
    asked = caller_of(door.upstream.seen[-1], key_folder, "registry")
    assert asked == Caller("blue", Role.VIEWER, SUBJECT, "gateway")


async def test_nothing_but_that_url_is_opened(door: Door, link: str) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as http:
        token = link.rpartition("/")[2]
        for path in (link[:-2], f"{link}/more", link.replace("registry", "ingest"), f"/v1/objects/trainer/{token}"):
            assert (await http.get(path)).status_code == 401, path
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await http.request(method, link)).status_code == 401
        assert (await http.get("/v1/models", headers=bearer(token))).status_code == 401
    assert [seen for seen in door.upstream.seen if seen["path"].startswith("/v1/")] == []  # it reads documents itself


async def test_a_key_opens_no_signed_url_that_is_none(door: Door) -> None:
    async with door.client("editor") as http:
        assert (await http.get("/v1/objects/registry/nothing")).status_code == 401
        assert (await http.get("/v1/objects/trainer/nothing")).status_code == 404
