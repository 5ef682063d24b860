"""gzip and zstd, unpacked into a file with limits on size and ratio."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ingest.domain.reports import Compression, Limits, Refused

CHUNK = 1 << 20


def unpack(source: Path, target: Path, compression: Compression, limits: Limits) -> None:
    """Write what `source` holds to `target`.

    Raises:
        Refused: not that compression, cut off, or more than the limits allow.
    """
    allowed = min(limits.unpacked, max(limits.ratio_floor, limits.ratio * source.stat().st_size))
    size = 0
    chunks = _gzip(source) if compression is Compression.GZIP else _zstd(source)
    with target.open("xb") as out:
        for chunk in chunks:
            size += len(chunk)
            if size > allowed:
                raise Refused("decoded-too-large", f"The source unpacks to more than {allowed} bytes.")
            out.write(chunk)


def _gzip(source: Path) -> Iterator[bytes]:
    engine = zlib.decompressobj(wbits=31)
    with source.open("rb") as file:
        data = b""
        try:
            while data := engine.unconsumed_tail or engine.unused_data or file.read(CHUNK):
                if engine.eof:
                    # Another member follows, as `cat a.gz b.gz` makes.
                    engine = zlib.decompressobj(wbits=31)
                yield engine.decompress(data, CHUNK)
        except zlib.error:
            raise Refused("bad-compression", "The source is not valid gzip.") from None
    if not engine.eof:
        raise Refused("bad-compression", "The gzip stream ends too early.")


def _zstd(source: Path) -> Iterator[bytes]:
    try:
        with pa.OSFile(str(source)) as file, pa.CompressedInputStream(file, "zstd") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except OSError:
        raise Refused("bad-compression", "The source is not valid zstd, or it ends too early.") from None
