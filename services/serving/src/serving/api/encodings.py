"""How bodies are packed: gzip and deflate, in and out, and never unpacked to more bytes than a route takes."""

import zlib
from collections.abc import Mapping

from kit import errors

WINDOWS: Mapping[str, int] = {"gzip": 31, "deflate": 15}
"""By the name of the encoding, what zlib calls it. `deflate` is a zlib stream, as RFC 9110 has it."""
WORTH = 1 << 10
"""Bytes of an answer below which packing costs more than it saves."""
LEVEL = 1
"""The fastest: at level 6 packing would take longer than most models."""


def unpacked(content: bytes, encoding: str, *, limit: int) -> bytes:
    """A body as it was before its encoding, at most `limit` bytes of it.

    Raises:
        errors.UnsupportedMedia: it is packed in another way.
        errors.TooLarge: it unpacks to more than is taken.
        errors.Malformed: it does not unpack.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return content
    if encoding not in WINDOWS:
        raise errors.UnsupportedMedia(f"A body here is plain, or packed with {' or '.join(WINDOWS)}.")
    unpacker = zlib.decompressobj(wbits=WINDOWS[encoding])
    try:
        plain = unpacker.decompress(content, limit + 1)
    except zlib.error:
        raise errors.Malformed(f"The body is not packed with {encoding}.") from None
    if len(plain) > limit:
        raise errors.TooLarge(f"The body may have {limit} bytes at most.")
    if not unpacker.eof or unpacker.unused_data:
        raise errors.Malformed(f"The body is not one whole {encoding} stream.")
    return plain


def packing(accepts: str) -> str | None:
    """The encoding that an `Accept-Encoding` likes best of those that are known here; None: a plain answer."""
    best, liked = None, 0.0
    for part in accepts.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = _weight(parameters)
        if name.strip() in (*WINDOWS, "identity") and weight > liked:
            best, liked = name.strip(), weight
    return None if best == "identity" else best


def packed(content: bytes, encoding: str) -> bytes:
    """It, in an encoding that `packing` chose."""
    packer = zlib.compressobj(LEVEL, wbits=WINDOWS[encoding])
    return packer.compress(content) + packer.flush()


def _weight(parameters: str) -> float:
    """A member's `q`. One that cannot be read is no wish."""
    name, _, value = parameters.partition("=")
    if not name.strip():
        return 1.0
    try:
        weight = float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
