"""Signed URLs of both stores: one object, one verb, some minutes, and nothing that a browser would show."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from joserfc import jws
from joserfc.jwk import OKPKey

from kit import links
from kit.app import Service, assemble, make_api
from kit.blobs import BlobStore
from kit.callers import Role, requires
from kit.downloads import Downloads, Stored
from kit.links import LONGEST, Lifetime, LinkOut, Links, LinksDep, LinkVerifier
from kit.testing import KeyFolder, client_of, eventually, undeclared, unguarded
from kit.testing_s3 import Seaweed
from kit.tokens import TokenRefused, load_signer, load_verifier, public_keys

from .test_blob_store import digest_of, put

HTML = b"<html><script>alert(1)</script></html>"
STORED = Stored("blue", digest_of(HTML), len(HTML), "page.html")
MINUTE = timedelta(minutes=1)


@dataclass
class House:
    """A service that gives links of its objects, and whoever opens them."""

    app: Service
    links: Links
    store: BlobStore
    client: httpx2.AsyncClient

    async def link(self, stored: Stored = STORED, lifetime: timedelta = MINUTE) -> LinkOut:
        return self.links.link(stored, lifetime)

    async def open(self, url: str, method: str = "GET", **headers: str) -> httpx2.Response:
        if url.startswith("/"):
            return await self.client.request(method, url, headers=headers)
        async with httpx2.AsyncClient() as outside:
            return await outside.request(method, url, headers=headers)


def service_of(store: BlobStore, maker: Links, key_folder: KeyFolder) -> Service:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"downloads": Downloads(store), "links": maker}

    api = make_api("ingest", lifespan)
    api.include_router(links.router("ingest"))

    @api.get("/v1/url")
    @requires(Role.VIEWER)
    async def get_url(links: LinksDep, lifetime: Lifetime) -> LinkOut:
        return links.link(STORED, lifetime)

    return assemble(
        api,
        verifier=load_verifier(key_folder.public, "ingest"),
        by_link=links.authenticator(links.load_verifier(key_folder.public)),
    )


@asynccontextmanager
async def house_of(store: BlobStore, key_folder: KeyFolder) -> AsyncIterator[House]:
    maker = links.load_links(key_folder.private("ingest"), store)
    app = service_of(store, maker, key_folder)
    await put(store, HTML)
    async with client_of(app) as client:
        yield House(app, maker, store, client)


@pytest.fixture
async def own(objects_url: str, key_folder: KeyFolder) -> AsyncIterator[House]:
    """Whose links lead to the service."""
    async with house_of(BlobStore(objects_url, "ingest"), key_folder) as house:
        yield house


@pytest.fixture(params=["its own", "S3's"])
async def house(
    request: pytest.FixtureRequest, objects_url: str, s3_url: str, seaweed: Seaweed, key_folder: KeyFolder
) -> AsyncIterator[House]:
    store = BlobStore(objects_url, "ingest")
    if request.param == "S3's":
        store = BlobStore(s3_url, "ingest", public_url=f"{seaweed.endpoint}/blobs/")
    async with house_of(store, key_folder) as house:
        yield house


async def test_a_link_opens_its_object_without_a_key_for_saving_and_not_for_showing(house: House) -> None:
    link = await house.link()
    assert (link.digest, link.size) == (STORED.digest, STORED.size)
    assert timedelta(0) < link.expires_at - datetime.now(UTC) <= MINUTE
    answer = await house.open(link.url)
    assert (answer.status_code, answer.content) == (200, HTML)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'


async def test_a_link_takes_ranges(house: House) -> None:
    answer = await house.open((await house.link()).url, Range="bytes=1-4")
    assert (answer.status_code, answer.content) == (206, b"html")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
async def test_a_link_is_good_for_reading_alone(house: House, method: str) -> None:
    answer = await house.open((await house.link()).url, method)
    assert answer.status_code in (401, 403, 405)
    assert await house.store.read("blue", STORED.digest) == HTML


async def test_a_link_that_is_changed_anywhere_opens_nothing(house: House) -> None:
    await put(house.store, b"secret")
    other, mine = digest_of(b"secret").removeprefix("sha256:"), STORED.digest.removeprefix("sha256:")
    url = (await house.link()).url
    # Not the port, which may have these digits too.
    path = url.find("/", url.find("://") + len("://")) if "://" in url else 0
    changed = [
        url[:-1] + ("A" if url[-1] != "A" else "B"),
        url[:path] + url[path:].replace("60", "900"),
        url + "&response-content-type=text/html",
    ]
    changed += [url.replace(mine, other), url.replace(f"{mine[:2]}/", f"{other[:2]}/").replace(mine, other)]
    changed += [url.replace("octet-stream", "xml"), url.replace("attachment", "inline"), url.replace("/v1/", "/v2/")]
    for each in {each for each in changed if each != url}:
        assert (await house.open(each)).status_code in (400, 401, 403, 404), each


async def test_a_link_ends(house: House) -> None:
    url = (await house.link(lifetime=timedelta(seconds=1))).url

    async def is_over() -> bool:
        return (await house.open(url)).status_code in (401, 403)

    assert await eventually(is_over)


async def test_what_a_key_may_see_a_link_may_not(own: House, key_folder: KeyFolder) -> None:
    """The guard looks at the path of a link, and at nothing else of the request."""
    good = (await own.link()).url
    key = key_folder.headers("ingest", project="blue")["authorization"]
    assert (await own.open("/v1/objects/ingest/x", Authorization=key)).status_code == 401
    assert (await own.open(good, Authorization="Bearer nonsense")).status_code == 200
    assert (await own.open("/openapi.json")).status_code == 200
    token = good.rpartition("/")[2]
    assert (await own.open("/v1/anything", Authorization=f"Bearer {token}")).status_code == 401


async def test_a_route_says_how_long_its_links_are_good_for(house: House, key_folder: KeyFolder) -> None:
    headers = key_folder.headers("ingest", project="blue", role=Role.VIEWER)
    for seconds, status in ((1, 200), (900, 200), (0, 422), (901, 422)):
        answer = await house.client.get("/v1/url", params={"seconds": seconds}, headers=headers)
        assert answer.status_code == status
    said = (await house.client.get("/v1/url", headers=headers)).json()
    assert datetime.fromisoformat(said["expires_at"]) - datetime.now(UTC) > timedelta(minutes=4)
    assert (await house.open(said["url"])).content == HTML


async def test_no_door_is_open(own: House) -> None:
    assert undeclared(own.app) == []
    assert await unguarded(own.app) == []


async def test_a_service_without_links_opens_none(key_folder: KeyFolder, own: House) -> None:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {}

    api = make_api("ingest", lifespan)
    api.include_router(links.router("ingest"))
    async with client_of(assemble(api, verifier=load_verifier(key_folder.public, "ingest"))) as client:
        assert (await client.get((await own.link()).url)).status_code == 401


# The signatures themselves.


class Forger:
    """Has the key of one service, and puts into a link what it likes."""

    def __init__(self, key_folder: KeyFolder, service: str = "registry") -> None:
        [self._jwk, *_] = json.loads(key_folder.private(service).read_bytes())["keys"]

    def token(self, **changes: object) -> str:
        claims: dict[str, object] = {
            "iss": "registry",
            "project": "blue",
            "digest": STORED.digest,
            "size": 3,
            "name": "x",
            "media_type": "text/html",
            "exp": 1060,
        }
        header = {"alg": "Ed25519", "kid": self._jwk["kid"], "typ": "link"}
        key = OKPKey.import_key(self._jwk)
        return jws.serialize_compact(header, orjson.dumps(claims | changes), key, algorithms=["Ed25519"])


@pytest.fixture
def verifier(key_folder: KeyFolder) -> LinkVerifier:
    keys = json.loads(key_folder.public.read_bytes())
    return LinkVerifier(lambda: public_keys(keys), clock=lambda: 1000)


def test_a_link_says_what_it_opens(key_folder: KeyFolder, verifier: LinkVerifier) -> None:
    link = verifier.verify(Forger(key_folder).token(), "registry")
    assert link.stored == Stored("blue", STORED.digest, 3, "x", "text/html")


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1000},
        {"exp": 1},
        {"exp": 1000 + int(LONGEST.total_seconds()) + 61},
        {"exp": "1060"},
        {"exp": True},
        {"iss": "ingest"},
        {"size": None},
        {"role": "admin"},
    ],
)
def test_what_no_service_signs_is_no_link(
    key_folder: KeyFolder, verifier: LinkVerifier, changes: dict[str, object]
) -> None:
    token = Forger(key_folder).token(**changes)
    for issuer in ("registry", "ingest"):
        with pytest.raises(TokenRefused):
            verifier.verify(token, issuer)


def test_a_link_of_another_service_is_none_of_this_one(key_folder: KeyFolder, verifier: LinkVerifier) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(Forger(key_folder, "ingest").token(iss="ingest"), "registry")
    with pytest.raises(TokenRefused):
        verifier.verify(Forger(key_folder, "ingest").token(), "registry")


def test_a_link_is_no_token_and_a_token_no_link(key_folder: KeyFolder, verifier: LinkVerifier) -> None:
    token = load_signer(key_folder.private("registry")).mint("registry", "blue", Role.ADMIN, "ada")
    with pytest.raises(TokenRefused):
        verifier.verify(token, "registry")
    with pytest.raises(TokenRefused):
        load_verifier(key_folder.public, "registry").verify(Forger(key_folder).token())


def test_an_unsigned_link_is_none(key_folder: KeyFolder, verifier: LinkVerifier) -> None:
    header, claims, _ = Forger(key_folder).token().split(".")
    none = base64.urlsafe_b64encode(header.encode()).decode().rstrip("=")
    for forged in (f"{header}.{claims}.", f"{none}.{claims}.", "..", "", "x" * 3000):
        with pytest.raises(TokenRefused):
            verifier.verify(forged, "registry")


@pytest.mark.parametrize("given", ["a folder", "no keys"])
def test_an_address_that_nobody_can_sign_for_is_refused_at_the_start(
    given: str, tmp_path: object, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}"
    if given == "no keys":
        url = seaweed.url
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(ValueError, match="AWS_SECRET_ACCESS_KEY"):
        BlobStore(url, "ingest", public_url=urljoin(seaweed.endpoint, "blobs"))
