"""Signed URLs: whoever has one may GET one object, for minutes, and needs no key.

Where S3 can be reached by users, S3 itself answers them (kit.s3). Everywhere else they come in by the gateway to the
service, whose own signature in the path is all that they bring: `/v1/objects/<service>/<signed>`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from joserfc import jws
from joserfc.jwk import OKPKey
from pydantic import BaseModel
from starlette.types import Scope

from kit.blob_store import BlobStore
from kit.callers import Caller, Role, requires
from kit.downloads import DownloadsDep, Stored
from kit.guard import Authenticator
from kit.remembered import Clock
from kit.tokens import ALGORITHM, Signatures, TokenRefused, public_keys

LONGEST = timedelta(minutes=15)
SUBJECT = "signed-url"
CLAIMS = {"iss": str, "project": str, "digest": str, "size": int, "name": str, "media_type": str, "exp": int}


class LinkOut(BaseModel):
    """Where one file can be had without a key."""

    url: str
    """Absolute, or relative to the address that was asked. It may be given away: it opens this one file."""
    expires_at: datetime
    digest: str
    """Verify what was received by it: the object store that answers does not."""
    size: int


@dataclass(frozen=True)
class Link:
    """What a signature says."""

    issuer: str
    stored: Stored


class Links:
    """Makes the signed URLs of one service."""

    def __init__(self, store: BlobStore, private_jwk: Mapping[str, Any], *, clock: Clock = time.time) -> None:
        self._store = store
        self._kid = str(private_jwk["kid"])
        self._key = OKPKey.import_key(dict(private_jwk))
        self._clock = clock

    def link(self, stored: Stored, lifetime: timedelta) -> LinkOut:
        """A URL of these bytes. In S3 it is S3's clock that ends it, else that of this service."""
        expires_at = datetime.fromtimestamp(int(self._clock()), UTC) + lifetime
        url = self._store.public_url(stored.project, stored.digest, stored.disposition, stored.media_type, lifetime)
        if url is None:
            claims = {"iss": self._store.service, **asdict(stored), "exp": int(expires_at.timestamp())}
            header = {"alg": ALGORITHM, "kid": self._kid, "typ": "link"}
            signed = jws.serialize_compact(header, orjson.dumps(claims), self._key, algorithms=[ALGORITHM])
            url = f"/v1/objects/{self._store.service}/{signed}"
        return LinkOut(url=url, expires_at=expires_at, digest=stored.digest, size=stored.size)


class LinkVerifier(Signatures):
    """Tells which bytes a signed path opens."""

    def verify(self, token: str, issuer: str) -> Link:
        """
        Raises:
            TokenRefused: this is not signed by the issuer, or its time is over.
        """
        claims = self._signed(token, CLAIMS)
        if claims.pop("iss") != issuer:
            raise TokenRefused("The link is of another service.")
        now, expires = self._clock(), claims.pop("exp")
        if not now < expires <= now + LONGEST.total_seconds() + 60:  # of a clock that is ahead
            raise TokenRefused("The link has expired.")
        return Link(issuer, Stored(**claims))


def load_links(path: Path, store: BlobStore) -> Links:
    """The maker of links that signs with the service's private key in `path`."""
    return Links(store, json.loads(path.read_bytes())["keys"][-1])


def load_verifier(path: Path) -> LinkVerifier:
    """By the public keys in `path`."""
    return LinkVerifier(lambda: public_keys(json.loads(path.read_bytes())))


def authenticator(verifier: LinkVerifier) -> Authenticator:
    """For kit.guard: the caller whom the signature in the path makes, who may read in one project, and the bytes."""

    async def by_link(scope: Scope, token: str) -> Caller:
        link = verifier.verify(token, scope["path"].split("/")[3])
        scope["state"]["stored"] = link.stored
        return Caller(link.stored.project, Role.VIEWER, SUBJECT, link.issuer)

    return by_link


def router(service: str) -> APIRouter:
    """The route that own links lead to. It is no part of the API document: its paths are for opening, not making."""
    routes = APIRouter(prefix=f"/v1/objects/{service}", include_in_schema=False)

    @routes.head("/{signed}")
    @routes.get("/{signed}")
    @requires(Role.VIEWER, by_link=True)
    async def get_object(request: Request, downloads: DownloadsDep) -> Response:
        stored: Stored = request.state.stored
        return await downloads.answer(request, stored)

    return routes


async def _links(request: Request) -> Links:
    links: Links = request.state.links
    return links


async def _lifetime(
    seconds: Annotated[int, Query(ge=1, le=900, description="How long the URL is good for.")] = 300,
) -> timedelta:
    return timedelta(seconds=seconds)


LinksDep = Annotated[Links, Depends(_links)]
Lifetime = Annotated[timedelta, Depends(_lifetime)]
