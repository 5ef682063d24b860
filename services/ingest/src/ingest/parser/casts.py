"""From what a source says to typed values, in SQL. A value that is not of its type becomes null, and is known."""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from ingest.domain.schema import Column, ColumnType
from ingest.parser.session import quoted

SQL_TYPES = {
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.NUMBER: "DOUBLE",
    ColumnType.STRING: "VARCHAR",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMPTZ",
}
# What a column becomes when not all of its values are of the type that was guessed.
WIDER = {
    ColumnType.INTEGER: ColumnType.NUMBER,
    ColumnType.NUMBER: ColumnType.STRING,
    ColumnType.DATE: ColumnType.TIMESTAMP,
    ColumnType.TIMESTAMP: ColumnType.STRING,
    ColumnType.BOOLEAN: ColumnType.STRING,
}
_WHAT = {
    ColumnType.BOOLEAN: "true or false",
    ColumnType.INTEGER: "a whole number of 64 bits",
    ColumnType.NUMBER: "a finite number",
    ColumnType.STRING: "text of an allowed length",
    ColumnType.DATE: "a date",
    ColumnType.TIMESTAMP: "a date and time",
}
SAMPLE = 10_000
WIDE = 200
_SHAPES = (
    "count({0})",
    "count_if(lower({0}) IN ('true', 'false'))",
    "count_if(regexp_full_match({0}, '[+-]?(0|[1-9][0-9]*)'))",
    "count_if(regexp_matches({0}, '^[+-]?0[0-9]'))",
    "count(TRY_CAST({0} AS DOUBLE))",
    "count_if(regexp_full_match({0}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}'))",
    "count_if(regexp_matches({0}, '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ][0-9]{{2}}:'))",
)


@dataclass(frozen=True)
class Cast:
    """One column on its way from the source to the stage."""

    column: Column
    source: str
    """Its name in the source."""
    valid: str | None = None
    """SQL over `{0}` that an acceptable value fulfils; others are nulled (policy coerce)."""

    plain: bool = False
    """Whether texts such as 007 are no numbers."""

    def typed(self, cell: int) -> str:
        """The typed value, or null."""
        value = typed(quoted(self.source), self.column.type, cell)
        if self.plain and self.column.type in (ColumnType.INTEGER, ColumnType.NUMBER):
            value = f"CASE WHEN NOT {is_code(quoted(self.source))} THEN {value} END"
        return value if self.valid is None else f"CASE WHEN {self.valid.format(value)} THEN {value} END"


def typed(value: str, to: ColumnType, cell: int) -> str:
    """SQL for `value` as that type; null when it is not of it."""
    match to:
        case ColumnType.BOOLEAN:
            # Not "t", "yes" or "1", which are as likely a code.
            return f"CASE WHEN lower({value}::VARCHAR) IN ('true', 'false') THEN TRY_CAST({value} AS BOOLEAN) END"
        case ColumnType.INTEGER:
            # A plain cast would round 39.02 to 39.
            return (
                f"CASE WHEN TRY_CAST({value} AS DOUBLE) = TRY_CAST({value} AS BIGINT) AND {_plain(value)} "
                f"THEN TRY_CAST({value} AS BIGINT) END"
            )
        case ColumnType.NUMBER:
            # "nan" and "inf" are doubles to the engine, but no JSON can say them and no statistic survives them.
            return (
                f"CASE WHEN isfinite(TRY_CAST({value} AS DOUBLE)) AND {_plain(value)} "
                f"THEN TRY_CAST({value} AS DOUBLE) END"
            )
        case ColumnType.STRING:
            return f"CASE WHEN strlen({value}::VARCHAR) <= {cell} THEN {value}::VARCHAR END"
        case ColumnType.DATE:
            # A plain cast would cut the time of day off.
            date = f"TRY_CAST({value} AS DATE)"
            return f"CASE WHEN {_dated(value, date)} AND TRY_CAST({value} AS TIMESTAMP) = {date} THEN {date} END"
        case ColumnType.TIMESTAMP:
            moment = f"TRY_CAST({value} AS TIMESTAMPTZ)"
            return f"CASE WHEN {_dated(value, moment)} THEN {moment} END"


def is_code(value: str) -> str:
    """SQL that is true for 007: a name, not a number."""
    return f"regexp_matches({value}, '^[+-]?0[0-9]')"


def _plain(value: str) -> str:
    # 1_000 is a number to the engine.
    return f"NOT contains({value}::VARCHAR, '_')"


def _dated(value: str, cast: str) -> str:
    # "infinity" and "epoch" are dates to the engine, and it knows years that no RFC 3339 can say.
    return f"isfinite({cast}) AND {cast} >= '0001-01-01' AND {cast} < '10000-01-01' AND NOT {value}::VARCHAR ^@ 'e'"


def wrong(column: Column) -> str:
    """What to say after a value that is not of its type."""
    return f"is not {_WHAT[column.type]}"


def counts(session: duckdb.DuckDBPyConnection, names: list[str], relation: str) -> Iterator[tuple[str, list[int]]]:
    """For each column: how many values the sample has, and how many look like each type, as `guess` takes them."""
    # Some columns at a time: of wide tables, all at once would be more than the memory.
    rows = min(SAMPLE, max(2_048, SAMPLE * WIDE // len(names)))
    for start in range(0, len(names), WIDE):
        some = names[start : start + WIDE]
        asked = ", ".join(shape.format(quoted(name)) for name in some for shape in _SHAPES)
        found = session.execute(f"SELECT {asked} FROM (SELECT * FROM {relation} LIMIT {rows})").fetchone() or ()
        for place, name in enumerate(some):
            yield name, list(found[place * len(_SHAPES) : (place + 1) * len(_SHAPES)])


def guess(values: int, booleans: int, integers: int, codes: int, numbers: int, dates: int, times: int) -> ColumnType:
    """The narrowest type that all values of the sample look like. Later values can only widen it."""
    if values == 0:
        return ColumnType.STRING
    if booleans == values:
        return ColumnType.BOOLEAN
    if codes:
        # 007 is a name, not a number.
        return ColumnType.STRING
    if integers == values:
        return ColumnType.INTEGER
    if numbers == values:
        return ColumnType.NUMBER
    if dates == values:
        return ColumnType.DATE
    if dates + times == values:
        return ColumnType.TIMESTAMP
    return ColumnType.STRING
