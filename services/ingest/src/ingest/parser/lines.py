"""Where in a CSV file its records are: the engine names rejected ones by byte, and the others only by their order."""

import csv
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ingest.domain.reports import Refused

CHUNK = 8 << 20
NEWLINE, RETURN, QUOTE = 10, 13, 34
BOM = b"\xef\xbb\xbf"
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """Some records that follow each other: where each begins, and on which line (from 1)."""

    starts: Positions
    lines: Positions


class CannotTell(Exception):
    """The quotes of this file are not all where a quoted field begins and ends."""


def records(data: mmap.mmap, delimiter: str, *, keep_blank: bool) -> Iterator[Records]:
    """The records of a file in order, its header too, by where quoted fields begin and end.

    Raises:
        CannotTell: then `slow_records` can.
    """
    quotes_before = lines_before = 0
    start = len(BOM) if data[:3] == BOM else 0
    pending = [start]
    for base in range(0, len(data), CHUNK):
        chunk = np.frombuffer(data, np.uint8, min(CHUNK, len(data) - base), base)
        quotes = np.flatnonzero(chunk == QUOTE) + base
        _check_quotes(data, quotes, quotes_before, delimiter, start)
        newlines = np.flatnonzero(chunk == NEWLINE) + base
        outside = (quotes_before + np.searchsorted(quotes, newlines)) % 2 == 0
        ends = newlines[outside]
        lines = (lines_before + 2 + np.arange(len(newlines)))[outside]
        first_line = pending[1] if len(pending) > 1 else 1
        if len(ends):
            starts = np.concatenate(([pending[0]], ends[:-1] + 1))
            numbers = np.concatenate(([first_line], lines[:-1]))
            keep = _not_blank(data, starts, ends) if not keep_blank else np.ones(len(starts), bool)
            yield Records(starts[keep], numbers[keep])
            pending = [int(ends[-1]) + 1, int(lines[-1])]
        quotes_before += len(quotes)
        lines_before += len(newlines)
        # What was looked at need not stay in memory: a large file would be more than the child may have.
        del chunk
        data.madvise(mmap.MADV_DONTNEED, base, min(CHUNK, len(data) - base))
    last = data[pending[0] : pending[0] + 2]
    if last and (keep_blank or last != b"\r"):
        number = pending[1] if len(pending) > 1 else 1
        yield Records(np.array([pending[0]], np.int64), np.array([number], np.int64))


def _not_blank(data: mmap.mmap, starts: Positions, ends: Positions) -> NDArray[np.bool_]:
    lengths = ends - starts
    keep = lengths > 0
    for place in np.flatnonzero(lengths == 1):
        keep[place] = data[int(starts[place])] != RETURN
    return keep


def _check_quotes(data: mmap.mmap, quotes: Positions, before: int, delimiter: str, start: int) -> None:
    """Every quote that opens follows a delimiter, and every one that closes precedes one."""
    if len(quotes) == 0:
        return
    whole = np.frombuffer(data, np.uint8)
    opening = (before + np.arange(len(quotes))) % 2 == 0
    opens, closes = quotes[opening], quotes[~opening]
    around = (NEWLINE, RETURN, QUOTE, ord(delimiter))
    ahead = whole[np.maximum(opens - 1, 0)]
    good = np.isin(ahead, around) | (opens == start)
    behind = whole[np.minimum(closes + 1, len(data) - 1)]
    ended = np.isin(behind, around) | (closes == len(data) - 1)
    del whole
    if not (good.all() and ended.all()):
        raise CannotTell


def slow_records(data: mmap.mmap, delimiter: str, *, keep_blank: bool) -> Iterator[Records]:
    """The same for files with quotes in the middle of fields, record by record."""
    position = len(BOM) if data[:3] == BOM else 0
    reached = position

    def physical() -> Iterator[str]:
        nonlocal reached
        data.seek(position)
        while line := data.readline():
            reached += len(line)
            yield line.decode("latin-1")

    reader = csv.reader(physical(), delimiter=delimiter)
    csv.field_size_limit(len(data) + 1)
    starts, lines, line = [], [], 0
    try:
        for fields in reader:
            if fields or keep_blank:
                starts.append(position)
                lines.append(line + 1)
            position, line = reached, reader.line_num
    except csv.Error as exc:
        raise Refused("bad-quotes", f"The quotes cannot be followed after line {line}: {exc}.") from None
    yield Records(np.array(starts, np.int64), np.array(lines, np.int64))


def with_one_line_end(path: Path) -> Path:
    """The file, or a copy of it beside it whose lines end with LF: the engine refuses a whole file of mixed ends.

    Raises:
        Refused: the file holds a NUL byte.
    """
    returns = both = lines = 0
    last = b""
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            if (place := chunk.find(b"\0")) >= 0:
                raise Refused("nul", f"Line {lines + 1 + chunk.count(NEWLINE, 0, place)} holds a NUL byte.")
            lines += chunk.count(NEWLINE)
            if RETURN in chunk or last == b"\r":
                returns += chunk.count(RETURN)
                both += chunk.count(b"\r\n") + (last == b"\r" and chunk[:1] == b"\n")
            last = chunk[-1:]
    feeds = lines
    if returns == 0 or returns == feeds == both:
        return path
    target = path.with_name(f"{path.name}-lines")
    ending = b"\r\n" if feeds else b"\r"
    with path.open("rb") as source, target.open("xb") as out:
        rest = b""
        while chunk := source.read(CHUNK):
            # A pair may lie across two chunks.
            chunk, rest = rest + chunk, b""
            if feeds and chunk.endswith(b"\r"):
                chunk, rest = chunk[:-1], b"\r"
            out.write(chunk.replace(ending, b"\n"))
        out.write(rest)
    return target


def line_at(source: BinaryIO, start: int, *, limit: int) -> str:
    """The first `limit` characters of the physical line that begins there."""
    source.seek(start)
    # A character has four bytes at most.
    text = source.read(4 * limit).partition(b"\n")[0].decode("utf-8", errors="replace")
    return text[:limit].rstrip("\r")
