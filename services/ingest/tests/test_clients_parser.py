"""The parser in a process of its own: what it may take, and what hostile bytes come to."""

import gzip
import io
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.clients.parser import ENVIRONMENT, ChildParser
from ingest.domain.reports import Compression, Format, Limits, Task
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import Ended, ParserVanished, judge
from kit import children
from kit.testing import eventually

MEMORY = 600 << 20
MINUTE = timedelta(minutes=1)


@pytest.fixture
def task_of(tmp_path: Path) -> Any:
    """`task_of(bytes, …)`: a task over them, in folders of its own."""

    def task(data: bytes, format: Format = Format.CSV, compression: Compression | None = None, **settings: Any) -> Task:
        source, out = tmp_path / "source", tmp_path / "out"
        source.write_bytes(data)
        out.mkdir()
        return Task(
            source=source,
            out=out,
            format=format,
            compression=compression,
            settings=DatasetSettings.model_validate(settings),
        )

    return task


async def parsed(task: Task, *, memory: int = MEMORY, deadline: timedelta = MINUTE) -> Ended:
    return await ChildParser(memory=memory, deadline=deadline).run(task)


async def test_a_child_parses_and_reports(task_of: Any) -> None:
    task = task_of(b"a,b\n1,x\n2\n")
    ended = await parsed(task)
    report = judge(ended)
    assert (ended.code, ended.reason, report.outcome) == (0, None, "ready")
    assert (report.rows_in, report.rows, report.rejected) == (2, 1, 1)
    assert all((task.out / shard.path).is_file() for shard in report.shards)


async def test_a_child_knows_nothing_of_the_service(task_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_DATABASE_URL", "postgresql://secret")
    task = task_of(b"")
    shown = "import os; print(dict(os.environ))"
    done = await children.run(
        [sys.executable, "-c", shown], memory=MEMORY, deadline=MINUTE, output=1 << 16, env=ENVIRONMENT, cwd=task.out
    )
    assert b"secret" not in done.out
    assert "HOME" not in ENVIRONMENT


async def test_a_child_that_takes_too_much_memory_is_ended(task_of: Any) -> None:
    ended = await parsed(task_of(b"a\n" + b"1\n" * 1000), memory=40 << 20)
    assert (ended.reason, ended.report) == ("memory", None)
    assert judge(ended).reason == "out-of-memory"


async def test_a_child_that_takes_too_long_is_ended(task_of: Any) -> None:
    ended = await parsed(task_of(b"a\n" + b"1\n" * 1000), deadline=timedelta(milliseconds=50))
    assert (ended.reason, ended.report) == ("deadline", None)
    assert judge(ended).reason == "deadline"


async def test_a_child_that_fails_has_said_nothing(task_of: Any) -> None:
    task = task_of(b"a\n1\n")
    task.source.unlink()
    ended = await parsed(task)
    assert (ended.code, ended.reason, ended.report) == (1, None, None)
    assert "FileNotFoundError" in ended.said
    assert len(ended.said) <= 500
    with pytest.raises(ParserVanished, match="exit code 1: "):
        judge(ended)


async def test_a_child_ends_with_its_service(task_of: Any, tmp_path: Path) -> None:
    """A service that is killed leaves no parser behind."""
    task = task_of(b"a\n" + b"1\n" * 3_000_000)
    program = (
        "import asyncio, sys; from datetime import timedelta; from ingest.clients.parser import ChildParser; "
        "from ingest.domain.reports import Task; task = Task.model_validate_json(sys.stdin.read()); "
        "asyncio.run(ChildParser(memory=1 << 30, deadline=timedelta(minutes=1)).run(task))"
    )
    # Killed by its own limit, as hard as anything is.
    done = await children.run(
        [sys.executable, "-c", program],
        stdin=task.model_dump_json().encode(),
        memory=MEMORY,
        deadline=timedelta(seconds=1),
        output=1 << 16,
        env=dict(os.environ),
        cwd=tmp_path,
    )
    assert done.reason == "deadline"

    def of_ours() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if path.readlink() == task.out:
                    found.append(path.parent.name)
            except OSError:
                continue
        return found

    await eventually(lambda: not of_ours())


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd", compression_level=19)
    return out.getvalue()


def repeated(times: int, length: int) -> pa.Array:
    """One text, many times: a few hundred bytes of Parquet."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array(["x" * length]))


CSV, NDJSON, PARQUET = Format
GZIP, ZSTD = Compression
BOMBS: dict[str, tuple[bytes, Format, Compression | None, set[str]]] = {
    "few bytes of Parquet that are 2 GB": (parquet(s=repeated(20_000, 100_000)), PARQUET, None, {"decoded-too-large"}),
    "few bytes of Parquet just below the limit": (
        parquet(s=repeated(255, 1 << 20)),
        PARQUET,
        None,
        {"out-of-memory", ""},
    ),
    "a million texts in a few bytes of Parquet": (
        parquet(n=pa.array([0] * 1_000_000, pa.int8()), s=repeated(1_000_000, 300)),
        PARQUET,
        None,
        {"decoded-too-large"},
    ),
    "gzip of zeros": (gzip.compress(b"a\n" + b"0" * (300 << 20)), CSV, GZIP, {"decoded-too-large"}),
    "gzip in gzip": (gzip.compress(gzip.compress(b"0" * (64 << 20))), CSV, GZIP, {"not-utf-8", "bad-header", "nul"}),
    "zstd of zeros": (
        pa.compress(b"a\n" + b"0" * (300 << 20), codec="zstd", asbytes=True),
        CSV,
        ZSTD,
        {"decoded-too-large"},
    ),
    "a quote that is never closed": (b'a,b\n"' + b"1,2\n" * 2_000_000, CSV, None, {"bad-quotes"}),
    "one line without end": (b"a,b\n" + b"1" * (64 << 20), CSV, None, {"no-rows"}),
    "nothing but commas": (b"," * (16 << 20), CSV, None, {"bad-header"}),
    "nothing but line ends": (b"\n" * (16 << 20), CSV, None, {"empty", "bad-header"}),
    "nothing but brackets": (b"[" * (16 << 20), NDJSON, None, {"no-rows"}),
    "objects in objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, NDJSON, None, {"no-rows"}),
    "a member for every line": (
        b"".join(b'{"k%d": 1}\n' % n for n in range(5000)),
        NDJSON,
        None,
        {"too-many-columns"},
    ),
}


@pytest.mark.parametrize(("data", "format", "compression", "reasons"), BOMBS.values(), ids=BOMBS.keys())
async def test_a_bomb_is_refused_within_the_limits(
    task_of: Any, data: bytes, format: Format, compression: Compression | None, reasons: set[str]
) -> None:
    task = task_of(data, format, compression)
    ended = await parsed(task)
    report = judge(ended)
    assert report.reason in reasons, report
    assert (report.outcome == "ready") == (report.reason == "")
    kept = sum(path.stat().st_size for path in task.out.rglob("*") if path.is_file())
    assert kept < (1 << 30)


async def test_limits_of_the_service_hold_for_its_child(task_of: Any) -> None:
    task = task_of(gzip.compress(b"a\n" + b"1\n" * 1000), CSV, GZIP)
    tight = task.model_copy(update={"limits": Limits(unpacked=100)})
    assert judge(await parsed(tight)).reason == "decoded-too-large"
