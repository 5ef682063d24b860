"""CSV: the engine reads it as text and says by byte which records it could not read; we find their lines."""

import contextlib
import csv
import io
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np
from numpy.typing import NDArray

from ingest.domain.reports import Limits, Refused
from ingest.domain.schema import BadColumnName, Column, check_names
from ingest.parser import casts
from ingest.parser.lines import (
    BOM,
    NEWLINE,
    RETURN,
    CannotTell,
    Records,
    line_at,
    records,
    slow_records,
    with_one_line_end,
)
from ingest.parser.session import file, literal
from ingest.parser.sources import RAW, Fault, Located, Place

HEADER = 1 << 20
LINE = 4 << 20
"""Bytes of a record: several cells of the largest size."""
DELIMITERS = ",;\t|"
REASONS = {
    "CAST": "type",
    "MISSING COLUMNS": "too_few_columns",
    "TOO MANY COLUMNS": "too_many_columns",
    "UNQUOTED VALUE": "quotes",
    "LINE SIZE OVER MAXIMUM": "line_too_long",
    "INVALID ENCODING": "encoding",
    "INVALID STATE": "quotes",
}
DETAILS = {
    "too_few_columns": "The line has fewer columns than the header.",
    "too_many_columns": "The line has more columns than the header.",
    "quotes": "A quoted value does not end where it should.",
    "line_too_long": f"The line has more than {LINE} bytes.",
    "encoding": "The line is not valid UTF-8.",
}


class CsvFile:
    """A CSV file with a header. Delimiter `,` `;` tab or `|`, quote `"`, doubled inside."""

    def __init__(self, path: Path, *, nulls: list[str], limits: Limits) -> None:
        """
        Raises:
            Refused: it cannot be read at all.
        """
        _head(path)
        self._path = with_one_line_end(path)
        self._nulls = nulls
        self._readings = 0
        self.delimiter, self.names = _header(_head(self._path))
        try:
            check_names(self.names, limit=limits.columns)
        except BadColumnName as exc:
            raise Refused("bad-header", exc.detail) from None

    def guess(self, session: duckdb.DuckDBPyConnection) -> list[Column]:
        sampled = casts.counts(session, self.names, self._read("ignore_errors=true"))
        return [Column(name, casts.guess(*counts)) for name, counts in sampled]

    def may_widen(self, name: str) -> bool:
        return True

    def relation(self) -> str:
        # Each reading has its own rejects.
        self._readings += 1
        tables = f"rejects_table='faults_{self._readings}', rejects_scan='scans_{self._readings}'"
        numbered = self._read(f"store_rejects=true, rejects_limit=0, rejects_line_size_limit={4 * RAW}, {tables}")
        return f"(SELECT row_number() OVER () AS __row, * FROM {numbered})"

    def locate(self, session: duckdb.DuckDBPyConnection, rows: NDArray[np.int64], *, total: int, keep: int) -> Located:
        table = f"(SELECT line_byte_position - 1 AS start, error_type::VARCHAR AS error FROM faults_{self._readings})"
        positions = session.execute(f"SELECT DISTINCT start FROM {table} ORDER BY start").fetchnumpy()["start"]
        if len(positions) + len(rows) == 0:
            return Located(lost=0)
        with self._path.open("rb") as opened:
            data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        lost = np.fromiter((_begin(data, position) for position in positions.tolist()), np.int64, len(positions))
        finder, lines, starts = self._find(data, lost, rows, total)
        kept = session.execute(f"SELECT DISTINCT * FROM {table} ORDER BY ALL LIMIT {keep}").fetchall()
        with self._path.open("rb") as opened:
            faults = [_fault(opened, finder, _begin(data, position), error) for position, error in kept]
        if len(lost) and finder.last == lost[-1]:
            _refuse_runaway(data, int(lost[-1]), finder)
        return Located(len(lost), faults, _places(self._path, rows, lines, starts))

    def _find(
        self, data: mmap.mmap, lost: NDArray[np.int64], rows: NDArray[np.int64], total: int
    ) -> tuple["_Finder", NDArray[np.int64], NDArray[np.int64]]:
        for reader in (records, slow_records):
            finder = _Finder(lost, rows, reader(data, self.delimiter, keep_blank=len(self.names) == 1))
            with contextlib.suppress(CannotTell):
                return finder, *finder.find(total)
        # The engine follows no line any more once a quoted value has gone on for too long.
        raise _runaway(data[: int(lost[0])].count(b"\n") + 1 if len(lost) else 1)

    def _read(self, options: str) -> str:
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.names)
        nulls = ", ".join(map(literal, self._nulls))
        return (
            f"read_csv({file(self._path)}, auto_detect=false, header=true, delim={literal(self.delimiter)}, "
            f"quote='\"', escape='\"', columns={{{columns}}}, max_line_size={LINE}, "
            # Without a null string of our own the engine has one: the empty one.
            f"nullstr=[{nulls or _impossible()}], {options})"
        )


class _Finder:
    """Walks over the records of a file once, pairing them with lost ones (by byte) and rows (by order)."""

    def __init__(self, lost: NDArray[np.int64], rows: NDArray[np.int64], found: Iterator[Records]) -> None:
        self._lost = lost
        self._rows = rows
        self._found = found
        self._lost_lines = np.zeros(len(lost), np.int64)
        self.last = -1
        """Where the last record begins."""

    def find(self, total: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Line and first byte of each row.

        Raises:
            CannotTell: these are not the records that the engine saw.
        """
        seen = matched = 0
        lines, starts = np.zeros(len(self._rows), np.int64), np.zeros(len(self._rows), np.int64)
        header = True
        for chunk in self._found:
            first = 1 if header and len(chunk.starts) else 0
            header = header and not first
            chunk_starts, chunk_lines = chunk.starts[first:], chunk.lines[first:]
            if not len(chunk_starts):
                continue
            self.last = int(chunk_starts[-1])
            low, high = np.searchsorted(self._lost, [chunk_starts[0], self.last + 1])
            lost = np.searchsorted(chunk_starts, self._lost[low:high])
            matched += int(np.count_nonzero(chunk_starts[lost] == self._lost[low:high]))
            self._lost_lines[low:high] = chunk_lines[lost]
            kept = np.ones(len(chunk_starts), bool)
            kept[lost] = False
            numbers = seen + np.cumsum(kept)
            count = int(np.count_nonzero(kept))
            low, high = np.searchsorted(self._rows, [seen + 1, seen + count + 1])
            places = np.searchsorted(numbers, self._rows[low:high])
            lines[low:high], starts[low:high] = chunk_lines[places], chunk_starts[places]
            seen += count
        if seen != total or matched != len(self._lost):
            raise CannotTell
        return lines, starts

    def line_of(self, start: int) -> int:
        """The line of a lost record."""
        return int(self._lost_lines[np.searchsorted(self._lost, start)])


def _places(
    path: Path, rows: NDArray[np.int64], lines: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[Place]:
    with path.open("rb") as opened:
        for row, line, start in zip(rows.tolist(), lines.tolist(), starts.tolist(), strict=True):
            yield Place(row, line, line_at(opened, start, limit=RAW))


def _refuse_runaway(data: mmap.mmap, start: int, finder: _Finder) -> None:
    """Refuse a file whose last record could not be read and goes on over more lines: it swallowed all of them."""
    end = data.find(b"\n", start)
    if end >= 0 and data[end : end + HEADER].strip():
        raise _runaway(finder.line_of(start))


def _runaway(line: int) -> Refused:
    return Refused(
        "bad-quotes", f"A quoted value at or near line {line} does not end, so that the lines after it are lost."
    )


def _begin(data: mmap.mmap, position: int) -> int:
    # Where lines end with CR LF, the engine's positions are one or more line ends too early.
    while data[position] in (NEWLINE, RETURN):
        position += 1
    return position


def _fault(source: BinaryIO, finder: _Finder, start: int, error: str) -> Fault:
    reason = REASONS.get(error, "unreadable")
    detail = DETAILS.get(reason, "The line cannot be read.")
    return Fault(finder.line_of(start), None, reason, detail, line_at(source, start, limit=RAW))


def _head(path: Path) -> str:
    with path.open("rb") as opened:
        raw = opened.read(HEADER)
    if not raw.strip():
        raise Refused("empty", "The source is empty.")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:1000]:
        raise Refused("not-utf-8", "The source is not UTF-8: it looks like UTF-16, or like no text at all.")
    try:
        return raw.removeprefix(BOM).decode("utf-8", errors="strict" if len(raw) < HEADER else "ignore")
    except UnicodeDecodeError:
        # Only a later line may be wrong; the header is what must be right here.
        return raw.removeprefix(BOM).decode("utf-8", errors="replace")


def _header(head: str) -> tuple[str, list[str]]:
    first = head.partition("\n")[0]
    if not first.strip():
        raise Refused("bad-header", "The first line is empty; it must be the header.")
    delimiter = max(DELIMITERS, key=lambda each: _outside_quotes(first).count(each))
    try:
        names = next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        raise Refused("bad-header", "The first line cannot be read as a header.") from None
    if any("\ufffd" in name for name in names):
        raise Refused("not-utf-8", "The header is not valid UTF-8.")
    return delimiter, names


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _impossible() -> str:
    # Not a value that anybody's data has.
    return literal("\x01\x02")
