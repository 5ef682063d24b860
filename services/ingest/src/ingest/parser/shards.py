"""Accepted rows as shards: Parquet whose bytes depend on nothing but the rows, the settings and the engine."""

from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from ingest.domain.reports import ShardFile
from ingest.domain.splits import HELD_OUT, TRAIN, Side
from ingest.parser.session import file, quoted
from ingest.parser.stage import Stage, group_rows

SHARD_ROWS = 262_144
# Beyond so many refused rows the join may spill, and then it does not keep the order of the rows.
UNORDERED = 2_000_000


def accepted(stage: Stage, rejected: NDArray[np.int64]) -> str:
    """SQL for the rows that nothing is wrong with, in the order of the source."""
    if len(rejected) == 0:
        return stage.relation
    order = " ORDER BY __row" if len(rejected) > UNORDERED else ""
    return f"(FROM {stage.relation} WHERE __row NOT IN (SELECT __row FROM found){order})"


def write_shards(
    session: duckdb.DuckDBPyConnection, stage: Stage, relation: str, held_out: str, out: Path
) -> list[ShardFile]:
    """Write both sides, the one for training first."""
    sides: list[tuple[Side, str]] = [(TRAIN, f"NOT ({held_out})"), (HELD_OUT, held_out)]
    return [
        shard for side, where in sides for shard in _write_side(session, stage, f"{relation} WHERE {where}", out, side)
    ]


def _write_side(session: duckdb.DuckDBPyConnection, stage: Stage, rows: str, out: Path, side: Side) -> list[ShardFile]:
    columns = ", ".join(quoted(column.name) for column in stage.columns)
    group = group_rows(stage.columns)
    folder = out / side
    session.execute(
        f"COPY (SELECT {columns} FROM {rows}) TO {file(folder)} (FORMAT parquet, "
        f"COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {group}, "
        f"ROW_GROUPS_PER_FILE {SHARD_ROWS // group}, WRITE_EMPTY_FILE false)"
    )
    paths = sorted(folder.glob("*.parquet"), key=lambda path: int(path.stem.rpartition("_")[2]))
    counted = [(path, _rows(session, path)) for path in paths]
    return [ShardFile(path=f"{side}/{path.name}", rows=count, split=side) for path, count in counted if count]


def _rows(session: duckdb.DuckDBPyConnection, path: Path) -> int:
    [(count,)] = session.execute(f"SELECT num_rows FROM parquet_file_metadata({file(path)})").fetchall()
    return int(count)
