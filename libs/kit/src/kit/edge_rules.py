"""What a request's head must look like before anything else of ours sees it."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import orjson

from kit.problems import BASE, MEDIA_TYPE

_HOST = re.compile(rb"[A-Za-z0-9._~\-:\[\]]{1,255}")
# What RFC 9112 lets stand in a request target. No fragment: it is never sent by who means well.
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_NEVER = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Limits:
    """How much of a request is taken, and how long it may take to arrive."""

    head: timedelta = timedelta(seconds=10)
    """From the first chance to send something to the end of the headers."""
    window: timedelta = timedelta(seconds=15)
    """Over which a body must average the rate below."""
    bytes_per_second: int = 1024
    headers: int = 100
    header_bytes: int = 16 * 1024
    url: int = 8 * 1024
    linger: timedelta = timedelta(seconds=1)
    """How long input is still read after an answer that did not want it, so that the client can read that answer."""
    write: timedelta = timedelta(seconds=20)
    """Over which a client that is sent more than its connection holds must average that rate in reading it."""
    connections: int = 4096


class Refusal(Exception):
    """An answer that no application gave."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    def response(self) -> bytes:
        """The whole HTTP response."""
        identity = str(uuid.uuid4())
        document = {
            "type": BASE + self.code,
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
            "request_id": identity,
        }
        body = orjson.dumps(document)
        retry = "retry-after: 1\r\n" if self.status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {identity}\r\n{retry}connection: close\r\n\r\n"
        )
        return head.encode("ascii") + body


def malformed(detail: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "malformed-request", detail)


def late(detail: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "request-timeout", detail)


def url_too_long(limits: Limits) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "uri-too-long", f"A URL may have {limits.url} bytes.")


def headers_too_large(limits: Limits) -> Refusal:
    detail = f"There may be {limits.headers} headers, of {limits.header_bytes} bytes together."
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header-fields-too-large", detail)


def too_many_connections() -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "There are too many connections.")


def check_head(
    version: str, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]], *, upgrade: bool
) -> bool:
    """Raise the refusal that a complete head deserves, if it does. Whether its client waits to be asked for a body."""
    if version not in ("1.0", "1.1"):
        raise malformed("This server speaks HTTP/1.1.")
    hosts, encodings, lengths = [], [], []  # type: tuple[list[bytes], list[bytes], list[bytes]]
    expects = False
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            encodings.append(value.lower())
        elif name == b"expect":
            expects = expects or value.lower() == b"100-continue"
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise malformed("There must be exactly one Host.")
    if encodings and encodings != [b"chunked"]:
        raise malformed("The only transfer encoding is chunked.")
    # What follows such a head would be read as another protocol, so that its body could never be one.
    if method == b"CONNECT" or (upgrade and (encodings or lengths not in ([], [b"0"]))):
        raise malformed("This server changes to no other protocol.")
    if not _TARGET.fullmatch(url):
        raise malformed("The request's target must be a path.")
    raw = url.partition(b"?")[0]
    if b"%" in raw or b"\\" in raw or b"/." in raw:  # what else a target may hold means one thing only
        check_path(raw)
    return expects


def check_path(raw: bytes) -> None:
    """Refuse paths that two readers could understand in two ways."""
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("The path is not UTF-8.") from None
    if _NEVER.search(path):
        raise malformed("The path holds a control character or a backslash.")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise malformed("The path holds a dot segment.")
