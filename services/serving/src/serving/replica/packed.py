"""Lines in a file of gzip. Two such files one behind the other are one."""

import zlib
from pathlib import Path

TIGHTEST = 100
"""Bytes for each packed one beyond which lines are not packed: ingest takes more for a bomb."""
BLOCK = 1 << 14


class Packed:
    """A file that grows by lines. The same lines make the same bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._engine = zlib.compressobj(1, wbits=31)
        self._plain = 0

    def write(self, lines: bytes) -> None:
        self._plain += len(lines)
        self._file.write(self._engine.compress(lines))

    def close(self) -> None:
        """The file is whole; what packs like a bomb is in it as it is."""
        self._file.write(self._engine.flush())
        self._file.close()
        if self._plain > TIGHTEST * self._path.stat().st_size:
            loose = self._path.with_suffix(".loose")
            _loosen(self._path, loose)
            loose.replace(self._path)


def _loosen(source: Path, target: Path) -> None:
    unpack, pack = zlib.decompressobj(wbits=31), zlib.compressobj(0, wbits=31)
    with source.open("rb") as packed, target.open("wb") as out:
        while some := packed.read(BLOCK):
            out.write(pack.compress(unpack.decompress(some)))
        out.write(pack.flush())
