"""The stage: every row that could be read, typed, with its number and what is wrong with its values."""

from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from ingest.domain.reports import Limits, Refused
from ingest.domain.schema import Column, ColumnType
from ingest.domain.settings import DatasetSettings, Policy
from ingest.parser import casts
from ingest.parser.checks import cell_rules
from ingest.parser.session import file, literal, quoted
from ingest.parser.sources import Source

SHOWN = 60
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True)
class Stage:
    """A Parquet file of `__row`, `__bad` (the wrong values of the row: column, value; null when there are none) and
    the typed columns."""

    path: Path
    columns: list[Column]
    rows: int

    @property
    def relation(self) -> str:
        return f"read_parquet({file(self.path)})"


def build_stage(
    session: duckdb.DuckDBPyConnection, source: Source, path: Path, settings: DatasetSettings, limits: Limits
) -> Stage:
    """Type all rows in one pass; where a type was guessed and not all values are of it, widen it and pass again.

    Raises:
        Refused: the columns are not those that the settings speak of.
    """
    columns = settings.schema_given()
    guessed = columns is None
    if columns is None:
        columns = source.guess(session)
    else:
        _refuse_other_columns(source.names, columns)
    _refuse_unknown(settings, columns)
    while True:
        rows = _write(session, source, columns, path, settings, limits)
        stage = Stage(path, columns, rows)
        wider = _widened(session, stage, source) if guessed else columns
        if wider == columns:
            return stage
        columns = wider


def _write(
    session: duckdb.DuckDBPyConnection,
    source: Source,
    columns: list[Column],
    path: Path,
    settings: DatasetSettings,
    limits: Limits,
) -> int:
    rules = cell_rules(settings, columns) if settings.policy is Policy.COERCE else {}
    # Where the type was only guessed, 007 may still turn out to be a name.
    guessed = settings.columns is None
    used = [
        casts.Cast(column, column.name, rules.get(column.name), plain=guessed and source.may_widen(column.name))
        for column in columns
    ]
    sources = ", ".join(f"{quoted(cast.source)} AS {quoted(f'__s{n}')}" for n, cast in enumerate(used))
    typed = ", ".join(f"{cast.typed(limits.cell)} AS {quoted(f'__t{n}')}" for n, cast in enumerate(used))
    wrong = [f"({quoted(f'__s{n}')} IS NOT NULL AND {quoted(f'__t{n}')} IS NULL)" for n in range(len(used))]
    named = ", ".join(
        f"CASE WHEN {bad} THEN {{'column': {literal(cast.column.name)}, "
        f"'value': left({quoted(f'__s{n}')}::VARCHAR, {SHOWN})}} END"
        for n, (bad, cast) in enumerate(zip(wrong, used, strict=True))
    )
    out = ", ".join(f"{quoted(f'__t{n}')} AS {quoted(cast.column.name)}" for n, cast in enumerate(used))
    path.unlink(missing_ok=True)
    # Evaluated only for the rows that have something wrong: a list for each row would cost more than all else.
    bad = f"CASE WHEN {' OR '.join(wrong)} THEN [{named}] END"
    query = f"SELECT __row, {bad} AS __bad, {out} FROM (SELECT __row, {sources}, {typed} FROM {source.relation()})"
    options = f"FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {group_rows(columns)}"
    [(rows,)] = session.execute(f"COPY ({query}) TO {file(path)} ({options})").fetchall()
    return int(rows)


def group_rows(columns: list[Column]) -> int:
    """Rows of a row group: about 16 MiB of values, so that any number of columns fits into the memory."""
    return min(65_536, max(2_048, (16 << 20) // (8 * len(columns)) // 2_048 * 2_048))


def wrong_values(stage: Stage) -> str:
    """SQL for each wrong value: its row, column and text."""
    return (
        f"SELECT __row, bad.column AS name, bad.value AS shown FROM "
        f"(SELECT __row, unnest(__bad) AS bad FROM {stage.relation} WHERE __bad IS NOT NULL) WHERE bad IS NOT NULL"
    )


def _widened(session: duckdb.DuckDBPyConnection, stage: Stage, source: Source) -> list[Column]:
    # "nan" and "inf" are refused numbers, not a sign that the column is none.
    counts = session.execute(
        f"SELECT name, count_if(TRY_CAST(shown AS DOUBLE) IS NULL OR {casts.is_code('shown')}), count(*) "
        f"FROM ({wrong_values(stage)}) GROUP BY name"
    ).fetchall()
    not_numbers = {name: count for name, count, _ in counts}
    found = {name for name, _, _ in counts}

    def wider(column: Column) -> Column:
        if column.name not in found or not source.may_widen(column.name) or column.type not in casts.WIDER:
            return column
        if column.type is ColumnType.NUMBER and not not_numbers[column.name]:
            return column
        return replace(column, type=casts.WIDER[column.type])

    return [wider(column) for column in stage.columns]


def _refuse_other_columns(names: list[str], columns: list[Column]) -> None:
    wanted = [column.name for column in columns]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Refused("missing-column", f"The source has no column {missing[0][:100]!r}.")
    extra = [name for name in names if name not in wanted]
    if extra:
        raise Refused("unknown-column", f"The source has a column {extra[0][:100]!r} that the schema does not name.")


def _refuse_unknown(settings: DatasetSettings, columns: list[Column]) -> None:
    names = {column.name for column in columns}
    for name in settings.named():
        if name not in names:
            raise Refused("unknown-column", f"The settings speak of a column {name[:100]!r} that the source has not.")
