"""Stored bytes as answers: all of them or one range (RFC 9110, §14), under an ETag that is their digest.

The whole is verified before the first byte leaves. A range alone has no digest to be verified by: it is sent after the
whole was, at most a minute earlier by this process, and whoever puts ranges together has the digest in the ETag.
"""

import re
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from kit.blob_store import BlobStore
from kit.remembered import Clock, Remembered

VERIFIED = 60.0
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_STRANGE = re.compile(r"[^A-Za-z0-9._-]")
Span = tuple[int, int]


@dataclass(frozen=True)
class Stored:
    """What is to be downloaded, and what it is called."""

    project: str
    digest: str
    size: int
    name: str
    media_type: str = "application/octet-stream"

    @property
    def disposition(self) -> str:
        """Saved and never shown, whatever the bytes are: a browser must not run what a user uploaded."""
        return f'attachment; filename="{_STRANGE.sub("_", self.name)}"'


class Downloads:
    """Made once for a process."""

    def __init__(self, store: BlobStore, *, clock: Clock = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._verified: Remembered[tuple[str, str], bool] = Remembered(clock)

    async def answer(self, request: Request, stored: Stored) -> Response:
        """The answer to a GET or HEAD.

        Raises:
            errors.Corrupt: the bytes are damaged or gone. Known before the answer begins.
            HTTPException: 416, the range begins behind their end.
        """
        headers = {
            "accept-ranges": "bytes",
            "content-disposition": stored.disposition,
            "content-length": str(stored.size),
            "content-type": stored.media_type,
            "etag": etag_of(stored),
            "x-content-type-options": "nosniff",
        }
        if _knows(request, headers["etag"]):
            return Response(status_code=304, headers={"etag": headers["etag"]})
        if request.method == "HEAD":
            return Response(headers=headers)
        span = _wanted(request, stored)
        key = (stored.project, stored.digest)
        if span is None or self._verified.get(key) is None:
            await self._store.check(*key)
            self._verified.put(key, True, until=self._clock() + VERIFIED)
        if span is None:
            return StreamingResponse(self._store.stream(stored.project, stored.digest), headers=headers)
        start, length = span
        headers |= {
            "content-length": str(length),
            "content-range": f"bytes {start}-{start + length - 1}/{stored.size}",
        }
        part = self._store.part(stored.project, stored.digest, start, length)
        return StreamingResponse(part, status_code=206, headers=headers)


def etag_of(stored: Stored) -> str:
    return f'"{stored.digest}"'


def span_of(header: str, size: int) -> Span | None:
    """Where a range begins, and how long it is. None: all is to be sent, since what is asked for is no single range.

    Raises:
        ValueError: there is nothing where it begins.
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    first, last = found.groups() if found else ("", "")
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= size:
        raise ValueError("nothing there")
    return start, end - start


def _wanted(request: Request, stored: Stored) -> Span | None:
    given = request.headers.get("range")
    # With If-Range a part is wanted of exactly these bytes, and otherwise all of what is there now.
    if given is None or request.headers.get("if-range", etag_of(stored)) != etag_of(stored):
        return None
    try:
        return span_of(given, stored.size)
    except ValueError:
        raise HTTPException(416, headers={"content-range": f"bytes */{stored.size}"}) from None


def _knows(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]


async def _downloads(request: Request) -> Downloads:
    downloads: Downloads = request.state.downloads
    return downloads


DownloadsDep = Annotated[Downloads, Depends(_downloads)]
