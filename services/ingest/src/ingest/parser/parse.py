"""From a source to shards, rejects and a profile: the whole of what the child does."""

from pathlib import Path

import duckdb
import orjson

from ingest.domain.reports import Format, Refused, Report, ShardFile, Task
from ingest.domain.settings import ColumnSpec, Policy
from ingest.domain.splits import HELD_OUT, TRAIN, Side
from ingest.parser.csv_files import CsvFile
from ingest.parser.expressions import check_expressions
from ingest.parser.ndjson_files import NdjsonFile
from ingest.parser.parquet_files import ParquetFile
from ingest.parser.profile import profile
from ingest.parser.rejects import find_rejects, first_reject, write_rejects
from ingest.parser.session import is_no_room, open_session
from ingest.parser.shards import accepted, write_shards
from ingest.parser.sources import Source
from ingest.parser.splits import held_out
from ingest.parser.stage import Stage, build_stage, wrong_values
from ingest.parser.unpack import unpack

REJECTS = "rejects.parquet"
PROFILE = "profile.json"


def parse(task: Task) -> Report:
    """Do what the task says. A source that cannot become a version is a report too."""
    try:
        return _parse(task)
    except Refused as exc:
        # The engine names files by their whole path, which is nobody's business.
        return Report(outcome="refused", reason=exc.reason, message=exc.message.replace(f"{task.out}/", ""))
    except (duckdb.Error, OSError) as exc:
        if is_no_room(exc):
            return Report(outcome="no-room")
        if isinstance(exc, duckdb.OutOfMemoryException):
            return Report(
                outcome="refused", reason="out-of-memory", message="The source needs more memory than is allowed."
            )
        raise


def _parse(task: Task) -> Report:
    work = task.out / "work"
    work.mkdir()
    path = task.source
    if path.stat().st_size == 0:
        raise Refused("empty", "The source is empty.")
    if task.compression is not None:
        path = work / "unpacked"
        unpack(task.source, path, task.compression, task.limits)
    else:
        # The engine reaches nothing but its own folder.
        path = work / "source"
        path.hardlink_to(task.source)
    session = open_session(task.out, memory=task.limits.memory)
    try:
        source, stage = _read(session, path, task, work)
        return _judge(session, source, stage, task, work)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as exc:
        if is_no_room(exc):
            raise
        # Such as a carriage return in the middle of a line, after which the engine follows no line any more.
        raise Refused("unreadable", f"The source cannot be read: {str(exc).splitlines()[0][:300]}") from None
    finally:
        session.close()


def _read(session: duckdb.DuckDBPyConnection, path: Path, task: Task, work: Path) -> tuple[Source, Stage]:
    source = _open(session, path, task, work)
    return source, build_stage(session, source, work / "stage.parquet", task.settings, task.limits)


def _open(session: duckdb.DuckDBPyConnection, path: Path, task: Task, work: Path) -> Source:
    match task.format:
        case Format.CSV:
            return CsvFile(path, nulls=task.settings.nulls, limits=task.limits)
        case Format.NDJSON:
            keep = task.limits.rejects
            return NdjsonFile(path, work / "texts", settings=task.settings, limits=task.limits, keep=keep)
        case Format.PARQUET:
            return ParquetFile(session, path, limits=task.limits)


def _judge(session: duckdb.DuckDBPyConnection, source: Source, stage: Stage, task: Task, work: Path) -> Report:
    side = held_out(task.settings, stage.columns)
    check_expressions(session, task.settings, stage.columns, stage.relation)
    rows = find_rejects(session, stage, task.settings)
    rejects = task.out / REJECTS
    rejected = write_rejects(session, source, stage, rows, rejects, work=work, keep=task.limits.rejects)
    report = Report(
        outcome="refused",
        columns=[ColumnSpec(name=column.name, type=column.type) for column in stage.columns],
        rows_in=stage.rows + rejected - len(rows),
        rejected=rejected,
        coerced=_coerced(session, stage) if task.settings.policy is Policy.COERCE else 0,
        rejects=REJECTS if rejected else None,
    )
    if rejected and task.settings.policy is Policy.FAIL:
        message = f"{rejected} of {report.rows_in} rows are not acceptable. {first_reject(session, rejects)}"
        return report.model_copy(update={"reason": "rows-refused", "message": message})
    if stage.rows == len(rows):
        message = f"None of {report.rows_in} rows is acceptable. {first_reject(session, rejects) if rejected else ''}"
        return report.model_copy(update={"reason": "no-rows", "message": message.strip()})
    shards = write_shards(session, stage, accepted(stage, rows), side, task.out)
    return _finish(session, stage, shards, report, task.out)


def _finish(
    session: duckdb.DuckDBPyConnection, stage: Stage, shards: list[ShardFile], report: Report, out: Path
) -> Report:
    splits: dict[Side, int] = {
        side: sum(shard.rows for shard in shards if shard.split == side) for side in (TRAIN, HELD_OUT)
    }
    total = sum(splits.values())
    found = profile(session, stage.columns, [out / shard.path for shard in shards], total)
    (out / PROFILE).write_bytes(orjson.dumps(found))
    done = {"outcome": "ready", "rows": total, "splits": splits, "shards": shards, "profile": PROFILE}
    return report.model_copy(update=done)


def _coerced(session: duckdb.DuckDBPyConnection, stage: Stage) -> int:
    [(count,)] = session.execute(f"SELECT count(*) FROM ({wrong_values(stage)})").fetchall()
    return int(count)
