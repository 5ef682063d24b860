"""Which rows are refused and why: found by SQL over the stage, told with the line of the source."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingest.domain.reports import Refused
from ingest.domain.settings import DatasetSettings, Policy
from ingest.parser import casts
from ingest.parser.checks import row_rules, unique_columns
from ingest.parser.session import file, is_no_room, literal, quoted
from ingest.parser.sources import Source
from ingest.parser.stage import Stage, wrong_values

BATCH = 20_000
_FAULTS = pa.schema(
    [
        ("line", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.string()),
    ]
)
_PLACES = pa.schema([("__row", pa.int64()), ("line", pa.int64()), ("raw", pa.string())])


def find_rejects(session: duckdb.DuckDBPyConnection, stage: Stage, settings: DatasetSettings) -> NDArray[np.int64]:
    """Fill the table `found`, and say which rows (ascending) are in it."""
    session.execute("CREATE TEMP TABLE found (__row BIGINT, name VARCHAR, reason VARCHAR, detail VARCHAR)")
    if settings.policy is not Policy.COERCE:
        session.execute(f"INSERT INTO found {_wrong_types(stage)}")
    # A row that could not be typed is refused for that alone: its nulls are ours.
    typed = stage.relation if settings.policy is Policy.COERCE else f"(FROM {stage.relation} WHERE __bad IS NULL)"
    for rule in row_rules(settings, stage.columns):
        told = f"{_or_null(rule.column)}, {literal(rule.reason)}, {literal(rule.detail)}"
        try:
            session.execute(f"INSERT INTO found SELECT __row, {told} FROM {typed} WHERE {rule.broken}")
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as exc:
            if is_no_room(exc):
                raise
            detail = str(exc).splitlines()[0][:200]
            raise Refused(
                "bad-check", f"The check {rule.reason} on {rule.column or 'the row'} fails: {detail}"
            ) from None
    for columns, reason, detail in unique_columns(settings):
        session.execute(f"INSERT INTO found {_repeated(typed, columns, reason, detail)}")
    rows = session.execute("SELECT DISTINCT __row FROM found ORDER BY __row").fetchnumpy()["__row"]
    return np.asarray(rows, np.int64)


def _wrong_types(stage: Stage) -> str:
    cases = " ".join(f"WHEN {literal(column.name)} THEN {literal(casts.wrong(column))}" for column in stage.columns)
    detail = f"concat('''', shown, ''' ', CASE name {cases} END, '.')"
    return f"SELECT __row, name, 'type', {detail} FROM ({wrong_values(stage)})"


def _repeated(typed: str, columns: list[str], reason: str, detail: str) -> str:
    """Rows whose values came before in a row that is accepted. The values that come once are the many: a grouping
    sorts them out, and only the others are put in order."""
    names = ", ".join(map(quoted, columns))
    present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in columns)
    accepted = f"(SELECT __row, {names} FROM {typed} WHERE {present} AND __row NOT IN (SELECT __row FROM found))"
    twice = f"(SELECT {names} FROM {accepted} GROUP BY ALL HAVING count(*) > 1)"
    ranked = (
        f"SELECT __row, row_number() OVER (PARTITION BY {names} ORDER BY __row) AS nth "
        f"FROM {accepted} SEMI JOIN {twice} USING ({names})"
    )
    column = literal(", ".join(columns))
    return f"SELECT __row, {column}, {literal(reason)}, {literal(detail)} FROM ({ranked}) WHERE nth > 1"


def write_rejects(
    session: duckdb.DuckDBPyConnection,
    source: Source,
    stage: Stage,
    rows: NDArray[np.int64],
    out: Path,
    *,
    work: Path,
    keep: int,
) -> int:
    """Write what was refused to `out`, in the order of the lines; at most `keep` places, but all are counted."""
    located = source.locate(session, rows[:keep], total=stage.rows, keep=keep)
    places, faults = work / "places.parquet", work / "faults.parquet"
    _write(places, _PLACES, ((place.row, place.line, place.raw) for place in located.places))
    _write(faults, _FAULTS, ((f.line, f.column, f.reason, f.detail, f.raw) for f in located.faults))
    places_of = f"read_parquet({file(places)})"
    told = (
        f'SELECT line, name AS "column", reason, detail, raw FROM found JOIN {places_of} USING (__row) '
        f'UNION ALL SELECT line, "column", reason, detail, raw FROM read_parquet({file(faults)})'
    )
    session.execute(
        f'COPY (FROM ({told}) ORDER BY line, "column" NULLS FIRST, reason, detail LIMIT {keep}) '
        f"TO {file(out)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)"
    )
    return located.lost + len(rows)


def first_reject(session: duckdb.DuckDBPyConnection, rejects: Path) -> str:
    """One sentence about the first refused line."""
    row = session.execute(f'SELECT line, "column", detail FROM read_parquet({file(rejects)}) LIMIT 1').fetchone()
    if row is None:  # pragma: no cover - asked only when something was refused
        return ""
    line, column, detail = row
    return f"Line {line}, {column}: {detail}" if column else f"Line {line}: {detail}"


def _write(path: Path, schema: pa.Schema, rows: Iterator[tuple[object, ...]]) -> None:
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batch in _batches(rows):
            arrays = [
                pa.array(values, field.type) for values, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema))


def _batches(rows: Iterator[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _or_null(name: str | None) -> str:
    return "NULL" if name is None else literal(name)
