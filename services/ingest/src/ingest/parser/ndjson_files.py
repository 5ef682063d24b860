"""NDJSON: every line is read strictly by ourselves, since the engine would take NaN, duplicates and torn lines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingest.domain.reports import Limits, Refused
from ingest.domain.schema import BadColumnName, Column, ColumnType, check_names
from ingest.domain.settings import DatasetSettings, Policy
from ingest.parser import casts
from ingest.parser.session import file, quoted
from ingest.parser.sources import RAW, Fault, Located, Place

LINE = 4 << 20
BATCH = 20_000
BATCH_BYTES = 32 << 20
"""Of lines held as Python objects before they are written, since 20,000 long lines are gigabytes."""
KINDS: Mapping[ColumnType, frozenset[type]] = {
    ColumnType.BOOLEAN: frozenset({bool}),
    ColumnType.INTEGER: frozenset({int}),
    ColumnType.NUMBER: frozenset({int, float}),
    ColumnType.STRING: frozenset({str}),
    ColumnType.DATE: frozenset({str}),
    ColumnType.TIMESTAMP: frozenset({str}),
}
NAMES: Mapping[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "a string"}


class _Wrong(Exception):
    def __init__(self, reason: str, detail: str, column: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.column = column


class NdjsonFile:
    """One flat JSON object a line. Its values become texts in Parquet beside it, read like those of a CSV."""

    def __init__(self, path: Path, out: Path, *, settings: DatasetSettings, limits: Limits, keep: int) -> None:
        self._path = path
        self._out = out
        self._nulls = frozenset(settings.nulls)
        self._limits = limits
        self._keep = keep
        self._coerce = settings.policy is Policy.COERCE
        self._given = {column.name: column.type for column in settings.schema_given() or []}
        self._kinds: dict[str, set[type]] = {name: set() for name in self._given}
        self._faults: list[Fault] = []
        self._parts: list[Path] = []
        self._lost = self._rows = 0
        out.mkdir()
        self._convert()
        self.names = list(self._kinds)
        try:
            check_names(self.names, limit=limits.columns)
        except BadColumnName as exc:
            raise Refused("bad-member-name", exc.detail) from None
        if not self.names:
            raise Refused("no-rows", "No line of the source is a JSON object with members.")

    def guess(self, session: duckdb.DuckDBPyConnection) -> list[Column]:
        sampled = casts.counts(session, self.names, self.relation())
        return [Column(name, self._guess(name, counts)) for name, counts in sampled]

    def _guess(self, name: str, counts: list[int]) -> ColumnType:
        kinds = self._kinds[name]
        if kinds == {bool}:
            return ColumnType.BOOLEAN
        if kinds == {int}:
            return ColumnType.INTEGER
        if kinds and kinds <= {int, float}:
            return ColumnType.NUMBER
        if kinds == {str} and (guessed := casts.guess(*counts)) in {ColumnType.DATE, ColumnType.TIMESTAMP}:
            return guessed
        return ColumnType.STRING

    def may_widen(self, name: str) -> bool:
        # Numbers beyond 64 bits, and strings of which only the first looked like dates.
        return self._kinds[name] in ({int}, {str})

    def relation(self) -> str:
        parts = ", ".join(map(file, self._parts))
        columns = ", ".join(map(quoted, self.names))
        return f"(SELECT __row, {columns} FROM read_parquet([{parts}], union_by_name=true))"

    def locate(self, session: duckdb.DuckDBPyConnection, rows: NDArray[np.int64], *, total: int, keep: int) -> Located:
        session.register("wanted", pa.table({"__row": rows}))
        parts = ", ".join(map(file, self._parts))
        places = session.execute(
            f"SELECT __row, __line, __start FROM read_parquet([{parts}]) JOIN wanted USING (__row) ORDER BY __row"
        ).fetchnumpy()
        session.unregister("wanted")
        return Located(self._lost, self._faults, self._places(places))

    def _places(self, places: Mapping[str, NDArray[np.int64]]) -> Iterator[Place]:
        with self._path.open("rb") as opened:
            for row, line, start in zip(*(places[name].tolist() for name in places), strict=True):
                opened.seek(start)
                yield Place(row, line, _raw(opened.read(4 * RAW)))

    def _convert(self) -> None:
        batch: list[tuple[int, int, dict[str, str | None]]] = []
        size = 0
        with self._path.open("rb") as opened:
            for line, start, raw in _lines(opened):
                if not raw.strip():
                    continue
                try:
                    batch.append((line, start, self._texts(raw)))
                except _Wrong as exc:
                    self._lost += 1
                    if len(self._faults) < self._keep:
                        self._faults.append(Fault(line, exc.column, exc.reason, exc.detail, _raw(raw)))
                size += len(raw)
                if len(batch) == BATCH or size > BATCH_BYTES:
                    self._write(batch)
                    batch, size = [], 0
        if batch or not self._parts:
            self._write(batch)

    def _texts(self, raw: bytes) -> dict[str, str | None]:
        if len(raw) > LINE:
            raise _Wrong("line_too_long", f"The line has more than {LINE} bytes.")
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError as exc:
            reason = "encoding" if "utf-8" in exc.msg.lower() else "json"
            raise _Wrong(reason, f"The line is not valid JSON: {exc.msg}.") from None
        if not isinstance(found, dict):
            raise _Wrong("not_an_object", "The line is not a JSON object.")
        _refuse_twice(raw, found)
        if self._given:
            return {name: self._given_text(name, value) for name, value in found.items()}
        for name in found:
            if name in self._kinds:
                continue
            if len(self._kinds) == self._limits.columns:
                raise Refused("too-many-columns", f"There are more than {self._limits.columns} members.")
            self._kinds[name] = set()
        return {name: self._text(name, value) for name, value in found.items()}

    def _given_text(self, name: str, value: object) -> str | None:
        expected = self._given.get(name)
        if expected is None:
            raise _Wrong("unknown_column", "The line has a member that is not one of the columns.", name[:100])
        if value is None or (isinstance(value, str) and value in self._nulls):
            return None
        whole = expected is ColumnType.INTEGER and isinstance(value, float) and value.is_integer()
        if type(value) in KINDS[expected] or whole:
            return self._text(name, value)
        if self._coerce and not isinstance(value, dict | list):
            # A text that no cast takes, so that the loss is counted with the others.
            return f"\x01{_shown(value)}" if expected is not ColumnType.STRING else _shown(value)
        raise _Wrong("type", f"{_shown(value)[:60]} is {_kind(value)}; the column is {expected.value}.", name)

    def _text(self, name: str, value: object) -> str | None:
        if value is None or (isinstance(value, str) and value in self._nulls):
            return None
        if isinstance(value, dict | list):
            raise _Wrong("nested", "The value is an object or a list; columns are flat.", name[:100])
        self._kinds[name].add(type(value))
        if isinstance(value, str):
            if "\0" in value:
                raise _Wrong("nul", "The value holds a NUL character.", name[:100])
            return value
        return _shown(value)

    def _write(self, batch: list[tuple[int, int, dict[str, str | None]]]) -> None:
        columns: dict[str, pa.Array] = {
            "__row": pa.array(range(self._rows + 1, self._rows + 1 + len(batch)), pa.int64()),
            "__line": pa.array([line for line, _, _ in batch], pa.int64()),
            "__start": pa.array([start for _, start, _ in batch], pa.int64()),
        }
        for name in self._kinds:
            columns[name] = pa.array([texts.get(name) for _, _, texts in batch], pa.string())
        self._rows += len(batch)
        path = self._out / f"part-{len(self._parts):06}.parquet"
        pq.write_table(pa.table(columns), path, compression="lz4", use_dictionary=False, write_statistics=False)
        self._parts.append(path)


def _lines(opened: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """(number, first byte, bytes) of each line; of one that is too long, only the beginning."""
    number, start = 0, 0
    while raw := opened.readline(LINE + 1):
        number += 1
        begun = start
        start += len(raw)
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        yield number, begun, raw
        while len(raw) > LINE and not raw.endswith(b"\n"):
            raw = opened.readline(LINE + 1)
            start += len(raw)
            if len(raw) <= LINE:
                break


def _refuse_twice(raw: bytes, found: dict[str, object]) -> None:
    """Members that are given twice: the reader keeps the last and says nothing."""
    if b"\\" not in raw:
        # Each member has two quotes, each string value two more: only a second member of a name adds others.
        strings = sum(isinstance(value, str) for value in found.values())
        if not any(isinstance(value, dict | list) for value in found.values()) and raw.count(b'"') == 2 * (
            len(found) + strings
        ):
            return

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise _Wrong("duplicate_member", "The line gives a member twice.")
        return dict(pairs)

    try:
        json.loads(raw, object_pairs_hook=once)
    except RecursionError:
        raise _Wrong("nested", "The line is nested too deeply.") from None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _kind(value: object) -> str:
    return NAMES.get(type(value), "an object or a list")


def _raw(raw: bytes) -> str:
    return raw.partition(b"\n")[0].decode("utf-8", errors="replace")[:RAW].rstrip("\r")
