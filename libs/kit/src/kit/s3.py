"""What obstore cannot ask of S3: URLs that fix how their answer is shown, and uploads that nobody finishes.

Every request here is a URL that carries its signature (AWS Signature Version 4, in the query); no body is signed.
"""

import hashlib
import hmac
import html
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import httpx2

ALGORITHM = "AWS4-HMAC-SHA256"
SOON = timedelta(minutes=1)
LARGEST = 5 << 30
"""Bytes of a part, and so of what can be copied as one."""
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)


@dataclass(frozen=True)
class Credentials:
    key_id: str
    secret: str = field(repr=False)
    region: str
    token: str | None = field(repr=False, default=None)
    """Of credentials that are good for a while only."""


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun and neither finished nor given up."""

    key: str
    id: str
    begun: datetime


@dataclass(frozen=True)
class Bucket:
    """Where the objects of `s3://bucket/prefix` are, and who may sign for them."""

    address: str
    """Of the bucket, without a slash at its end."""
    prefix: str
    """Before every key: empty, or with a slash at its end."""
    credentials: Credentials

    def signed(
        self, method: str, key: str, *, expires: timedelta, query: Mapping[str, str] | None = None, now: datetime
    ) -> str:
        """A URL that does this one thing to this one object, until S3's clock says `now` + `expires`."""
        address = f"{self.address}/{quote(self.prefix + key)}"
        return _signed(method, address, query or {}, self.credentials, expires, now)

    async def uploads(self, client: httpx2.AsyncClient, prefix: str) -> AsyncIterator[Upload]:
        """The uploads under `prefix` that are under way, or whose writer is dead.

        Raises:
            httpx2.HTTPError: S3 does not answer, or does not allow it.
        """
        markers: Mapping[str, str] | None = {}
        while markers is not None:
            query = {"uploads": "", "prefix": self.prefix + prefix, **markers}
            url = _signed("GET", f"{self.address}/", query, self.credentials, SOON, datetime.now(UTC))
            said = (await client.get(url)).raise_for_status().text
            for found in _UPLOAD.findall(said):
                key = _text(found, "Key").removeprefix(self.prefix)
                yield Upload(key, _text(found, "UploadId"), datetime.fromisoformat(_text(found, "Initiated")))
            markers = _next_page(said)

    async def give_up(self, client: httpx2.AsyncClient, upload: Upload) -> None:
        """Abort an upload: its parts are gone. One that has ended meanwhile is fine."""
        query = {"uploadId": upload.id}
        answer = await client.delete(
            self.signed("DELETE", upload.key, expires=SOON, query=query, now=datetime.now(UTC))
        )
        if answer.status_code != 404:
            answer.raise_for_status()


def bucket_of(url: str, environ: Mapping[str, str], *, address: str | None = None) -> Bucket | None:
    """The bucket of `s3://bucket/prefix`, by the same AWS_* that obstore reads.

    None when the credentials are not in there, but are to be asked for elsewhere: then nobody here can sign.
    """
    key_id, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        return None
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    credentials = Credentials(key_id, secret, region, environ.get("AWS_SESSION_TOKEN") or None)
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    where = (address or _address(parts.netloc, region, environ)).rstrip("/")
    return Bucket(where, f"{prefix}/" if prefix else "", credentials)


def _address(bucket: str, region: str, environ: Mapping[str, str]) -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((found.rstrip("/") for name in names if (found := environ.get(name))), None)
    in_host = environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() == "true"
    if endpoint is None:
        return f"https://{bucket}.s3.{region}.amazonaws.com"
    return endpoint if in_host else f"{endpoint}/{bucket}"


def _signed(
    method: str, url: str, query: Mapping[str, str], credentials: Credentials, expires: timedelta, now: datetime
) -> str:
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    steps = (stamp[:8], credentials.region, "s3", "aws4_request")
    said = {
        **query,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": "/".join((credentials.key_id, *steps)),
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(int(expires.total_seconds())),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.token is not None:
        said["X-Amz-Security-Token"] = credentials.token
    words = "&".join(f"{name}={value}" for name, value in sorted((quote(a, ""), quote(b, "")) for a, b in said.items()))
    request = "\n".join((method, parts.path, words, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{credentials.secret}".encode()
    for step in steps:
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, "\n".join((ALGORITHM, stamp, "/".join(steps), digest)).encode(), "sha256").hex()
    return f"{url}?{words}&X-Amz-Signature={signature}"


def _next_page(said: str) -> Mapping[str, str] | None:
    if _text(said, "IsTruncated") != "true":
        return None
    return {"key-marker": _text(said, "NextKeyMarker"), "upload-id-marker": _text(said, "NextUploadIdMarker")}


def _text(xml: str, name: str) -> str:
    # The answers are flat and S3's own: a parser of XML would bring more dangers than it takes away.
    found = re.search(f"<{name}>(.*?)</{name}>", xml, re.DOTALL)
    return html.unescape(found[1]) if found else ""
