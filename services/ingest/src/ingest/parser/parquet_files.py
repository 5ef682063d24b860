"""Parquet: typed already, and never trusted in what it says of its own size."""

from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from ingest.domain.reports import Limits, Refused
from ingest.domain.schema import BadColumnName, Column, ColumnType, check_names
from ingest.parser.session import file, quoted
from ingest.parser.sources import Located, Place

FOOTER = b"PAR1"
_TYPES = {
    "BOOLEAN": ColumnType.BOOLEAN,
    "TINYINT": ColumnType.INTEGER,
    "SMALLINT": ColumnType.INTEGER,
    "INTEGER": ColumnType.INTEGER,
    "BIGINT": ColumnType.INTEGER,
    "UTINYINT": ColumnType.INTEGER,
    "USMALLINT": ColumnType.INTEGER,
    "UINTEGER": ColumnType.INTEGER,
    "UBIGINT": ColumnType.INTEGER,
    "FLOAT": ColumnType.NUMBER,
    "DOUBLE": ColumnType.NUMBER,
    "VARCHAR": ColumnType.STRING,
    "DATE": ColumnType.DATE,
    "TIMESTAMP": ColumnType.TIMESTAMP,
    "TIMESTAMP_NS": ColumnType.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": ColumnType.TIMESTAMP,
    "TIMESTAMPTZ_NS": ColumnType.TIMESTAMP,
}
WIDTH = 8


class ParquetFile:
    """A Parquet file of flat columns. Its rows are numbered as its lines would be."""

    def __init__(self, session: duckdb.DuckDBPyConnection, path: Path, *, limits: Limits) -> None:
        self._path = path
        with path.open("rb") as opened:
            head = opened.read(len(FOOTER))
            opened.seek(max(0, path.stat().st_size - len(FOOTER)))
            if head != FOOTER or opened.read() != FOOTER:
                raise Refused("not-parquet", "The source is not a Parquet file.")
        try:
            described = session.execute(f"DESCRIBE SELECT * FROM read_parquet({file(path)})").fetchall()
        except duckdb.Error:
            raise Refused("not-parquet", "The source is not a readable Parquet file.") from None
        self.names = [str(row[0]) for row in described]
        try:
            check_names(self.names, limit=limits.columns)
        except BadColumnName as exc:
            raise Refused("bad-header", exc.detail) from None
        self._types = {str(row[0]): _type_of(str(row[0]), str(row[1])) for row in described}
        self._refuse_bombs(session, limits)

    def guess(self, session: duckdb.DuckDBPyConnection) -> list[Column]:
        return [Column(name, self._types[name]) for name in self.names]

    def may_widen(self, name: str) -> bool:
        return False

    def relation(self) -> str:
        columns = ", ".join(map(quoted, self.names))
        numbered = f"read_parquet({file(self._path)}, file_row_number=true)"
        return f"(SELECT file_row_number + 1 AS __row, {columns} FROM {numbered})"

    def locate(self, session: duckdb.DuckDBPyConnection, rows: NDArray[np.int64], *, total: int, keep: int) -> Located:
        return Located(lost=0, places=(Place(row, row, "") for row in rows.tolist()))

    def _refuse_bombs(self, session: duckdb.DuckDBPyConnection, limits: Limits) -> None:
        # A size in the footer is a claim. 260 bytes can decode to gigabytes: run-length encoded rows of long strings.
        allowed = min(limits.unpacked, max(limits.ratio_floor, limits.ratio * self._path.stat().st_size))
        texts = [quoted(name) for name in self.names if self._types[name] is ColumnType.STRING]
        lengths = "".join(f" + coalesce(sum(strlen({name})), 0)" for name in texts)
        query = f"SELECT count(*) * {WIDTH * len(self.names)}{lengths} FROM read_parquet({file(self._path)})"
        try:
            [(claimed,)] = session.execute(
                f"SELECT sum(num_rows) FROM parquet_file_metadata({file(self._path)})"
            ).fetchall()
            decoded = (claimed or 0) * WIDTH * len(self.names)
            if decoded <= allowed:
                [(decoded,)] = session.execute(query).fetchall()
        except duckdb.OutOfMemoryException:
            decoded = allowed + 1
        except duckdb.Error:
            raise Refused("not-parquet", "The source is not a readable Parquet file.") from None
        if decoded > allowed:
            raise Refused("decoded-too-large", f"The source unpacks to more than {allowed} bytes.")


def _type_of(name: str, declared: str) -> ColumnType:
    if declared.startswith("DECIMAL"):
        return ColumnType.NUMBER
    found = _TYPES.get(declared)
    if found is None:
        raise Refused("bad-column-type", f"Column {name[:100]!r} is {declared[:60]}: not flat, or of no known type.")
    return found
