"""Bodies that are packed, and answers for those who ask for packed ones."""

import gzip
import zlib

import pytest

from kit import errors
from serving.api import encodings

CONTENT = b'{"inputs": []}' * 100
MANY = 1 << 20


def pack(content: bytes, encoding: str) -> bytes:
    return gzip.compress(content) if encoding == "gzip" else zlib.compress(content)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_is_unpacked_up_to_a_limit(encoding: str) -> None:
    body = pack(CONTENT, encoding)
    assert encodings.unpacked(body, encoding, limit=len(CONTENT)) == CONTENT
    assert encodings.unpacked(body, f" {encoding.upper()}", limit=len(CONTENT)) == CONTENT
    with pytest.raises(errors.TooLarge):
        encodings.unpacked(body, encoding, limit=len(CONTENT) - 1)
    bomb = pack(b"\0" * (64 << 20), encoding)
    with pytest.raises(errors.TooLarge):
        encodings.unpacked(bomb, encoding, limit=MANY)
    for wrong in (body[:-1], body + b"x", body + body, b"", b"plain"):
        with pytest.raises(errors.Malformed, match=encoding):
            encodings.unpacked(wrong, encoding, limit=MANY)


def test_a_plain_body_is_taken_as_it_is_and_an_unknown_encoding_is_not() -> None:
    assert encodings.unpacked(CONTENT, "", limit=1) is CONTENT
    assert encodings.unpacked(CONTENT, "identity", limit=1) is CONTENT
    for unknown in ("br", "zstd", "gzip, gzip", "gzip;q=1"):
        with pytest.raises(errors.UnsupportedMedia):
            encodings.unpacked(CONTENT, unknown, limit=MANY)


@pytest.mark.parametrize(
    ("accepts", "chosen"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("deflate, GZIP;q=0.9", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("gzip; q=0.2, deflate; q=0.7", "deflate"),
        ("gzip;q=x, deflate;q=2, deflate;v=1", None),
        ("*", None),
        ("br", None),
    ],
)
def test_the_best_liked_of_known_encodings_is_chosen(accepts: str, chosen: str | None) -> None:
    assert encodings.packing(accepts) == chosen


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_was_packed_here_is_read_by_others(encoding: str) -> None:
    unpack = gzip.decompress if encoding == "gzip" else zlib.decompress
    assert unpack(encodings.packed(CONTENT, encoding)) == CONTENT
