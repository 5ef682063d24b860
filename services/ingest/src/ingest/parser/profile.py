"""What a version's rows look like: counts, extremes, quantiles, histograms and frequent values of each column."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from ingest.domain.schema import Column, ColumnType
from ingest.parser.session import file, quoted

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20
TOP = 20
EXACT = 2_000_000
"""Rows up to which distinct values and quantiles are exact: beyond, they would not fit into the memory."""
CELLS = 1_000_000
"""Values that are looked at together, at most, unless one column alone has more."""
SHOWN = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def profile(
    session: duckdb.DuckDBPyConnection, columns: list[Column], shards: Sequence[Path], rows: int
) -> dict[str, Any]:
    """The profile of all rows of the shards, as JSON."""
    relation = f"read_parquet([{', '.join(map(file, shards))}])"
    exact = rows <= EXACT
    said: list[dict[str, Any]] = []
    together = max(1, CELLS // max(rows, 1))
    for start in range(0, len(columns), together):
        some, narrow = columns[start : start + together], relation
        if len(some) > 1:
            # Every query over a wide file costs as much as the file has columns: copied, they cost little each.
            names = ", ".join(quoted(column.name) for column in some)
            session.execute(f"CREATE OR REPLACE TEMP TABLE profiled AS SELECT {names} FROM {relation}")
            narrow = "profiled"
        said += [_column(session, narrow, column, rows, exact=exact) for column in some]
    return {"rows": rows, "exact": exact, "columns": said}


def _column(
    session: duckdb.DuckDBPyConnection, relation: str, column: Column, rows: int, *, exact: bool
) -> dict[str, Any]:
    name = quoted(column.name)
    measured = column.type not in (ColumnType.STRING, ColumnType.BOOLEAN)
    distinct = f"count(DISTINCT {name})" if exact else f"approx_count_distinct({name})"
    asked = [f"count({name})", distinct, f"min({_ends(column)})", f"max({_ends(column)})"]
    if measured:
        asked.append(f"{'quantile_disc' if exact else 'approx_quantile'}({_number(column)}, {list(QUANTILES)})")
    [(count, unique, low, high, *quantiles)] = session.execute(f"SELECT {', '.join(asked)} FROM {relation}").fetchall()
    said: dict[str, Any] = {
        "name": column.name,
        "type": column.type.value,
        "count": count,
        "nulls": rows - count,
        "distinct": unique,
        "min": _plain(low, column),
        "max": _plain(high, column),
    }
    if measured and count:
        said["quantiles"] = {str(q): _plain(value, column) for q, value in zip(QUANTILES, quantiles[0], strict=True)}
        said["histogram"] = _histogram(session, relation, column, float(low), float(high), count)
    if column.type in (ColumnType.INTEGER, ColumnType.NUMBER):
        said |= _moments(session, relation, name)
    if not measured:
        said["top"] = _top(session, relation, name)
    return said


def _ends(column: Column) -> str:
    # Of long texts only the beginning, by which they are ordered anyway.
    return f"left({quoted(column.name)}, {SHOWN})" if column.type is ColumnType.STRING else _number(column)


def _number(column: Column) -> str:
    """The value as a number: of dates the days, of timestamps the microseconds since 1970."""
    name = quoted(column.name)
    match column.type:
        case ColumnType.DATE:
            return f"({name} - DATE '1970-01-01')"
        case ColumnType.TIMESTAMP:
            return f"epoch_us({name})"
        case _:
            return name


def _moments(session: duckdb.DuckDBPyConnection, relation: str, value: str) -> dict[str, float | None]:
    try:
        [(mean, deviation)] = session.execute(f"SELECT avg({value}), stddev_pop({value}) FROM {relation}").fetchall()
    except duckdb.OutOfRangeException:
        # Sums of squares that no double holds.
        return {"mean": None, "stddev": None}
    return {"mean": _finite(mean), "stddev": _finite(deviation)}


def _histogram(
    session: duckdb.DuckDBPyConnection, relation: str, column: Column, low: float, high: float, count: int
) -> dict[str, Any]:
    """Counts between equally distant edges; the last bin includes its upper edge."""
    width = (high - low) / BINS
    if width <= 0 or width == float("inf"):
        return {"edges": [_edge(low, column), _edge(high, column)], "counts": [count]}
    value = f"({_number(column)})::DOUBLE"
    place = f"least({BINS - 1}, greatest(0, floor(({value} - {low!r}) / {width!r})))::INTEGER"
    query = f"SELECT {place} AS bin, count(*) FROM {relation} WHERE {value} IS NOT NULL GROUP BY bin"
    counted = dict(session.execute(query).fetchall())
    edges = [*(low + width * n for n in range(BINS)), high]
    return {"edges": [_edge(edge, column) for edge in edges], "counts": [counted.get(n, 0) for n in range(BINS)]}


def _top(session: duckdb.DuckDBPyConnection, relation: str, name: str) -> list[dict[str, Any]]:
    found = session.execute(
        f"SELECT left({name}::VARCHAR, {SHOWN}), count(*) AS n FROM {relation} WHERE {name} IS NOT NULL "
        f"GROUP BY {name} ORDER BY n DESC, {name} LIMIT {TOP}"
    ).fetchall()
    return [{"value": value, "count": count} for value, count in found]


def _edge(edge: float, column: Column) -> Any:
    return edge if column.type in (ColumnType.INTEGER, ColumnType.NUMBER) else _plain(round(edge), column)


def _plain(value: Any, column: Column) -> Any:
    """A value as JSON says it."""
    if value is None or column.type not in (ColumnType.DATE, ColumnType.TIMESTAMP):
        return value
    if column.type is ColumnType.DATE:
        return (EPOCH + timedelta(days=int(value))).date().isoformat()
    # The last edge of a histogram is a double, which may be a little beyond the last moment.
    return (EPOCH + timedelta(microseconds=min(int(value), LAST))).isoformat().replace("+00:00", "Z")


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) != float("inf") and value == value else None
