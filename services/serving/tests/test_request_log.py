"""The request log: in Parquet, each file whole or not there, within its bounds, and in nobody's way."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY

from kit.testing import eventually
from serving.domain.request_rows import COLUMNS, FIXED, Logged
from serving.replica.request_log import ROWS, Bounds, RequestFiles, RequestLog

NOON = 1_764_072_000.0  # 2025-11-25T12:00Z


def logged(at: float = NOON, **more: Any) -> Logged:
    values: dict[str, Any] = {column.name: "" if column.kind.name == "TEXT" else 0 for column in COLUMNS}
    for name in ("time", "inputs", "outputs", "rows_kept"):
        del values[name]
    return Logged(at, values | {"project": "demo", "deployment": "late", "request_id": "r"} | more, None)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def files(folder: Path, *, largest: int = 1 << 20, **more: Any) -> RequestFiles:
    return RequestFiles(folder / "requests", largest=largest, kept=timedelta(days=7), **more)


def log_of(found: RequestFiles, *, buffer: int = 1 << 20, seconds: float = 3600.0) -> RequestLog:
    return RequestLog(found, Bounds(1.0, 1 << 14, buffer, seconds))


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("trainyard_request_log_dropped_total", {"reason": reason}) or 0.0


def test_a_file_is_where_its_project_deployment_and_hour_say(tmp_path: Path) -> None:
    made = files(tmp_path)
    made.prepare()
    made.write([logged(), logged(project="other"), logged(NOON + 3600), logged(NOON + 1)])
    found = files_in(tmp_path)
    assert [it.parent.relative_to(tmp_path / "requests").parts for it in found] == [
        ("project=demo", "deployment=late", "hour=2025-11-25T12"),
        ("project=demo", "deployment=late", "hour=2025-11-25T13"),
        ("project=other", "deployment=late", "hour=2025-11-25T12"),
    ]
    assert [pq.ParquetFile(it).read().num_rows for it in found] == [2, 1, 1]
    assert pq.ParquetFile(found[0]).schema_arrow.names == [column.name for column in COLUMNS]
    assert (tmp_path / "requests").stat().st_mode & 0o077 == 0


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_request_log import files, logged
def die(part, path):
    os.kill(os.getpid(), signal.SIGKILL)
files(Path(sys.argv[1]), publish=die).write([logged()])
"""


def test_a_process_that_is_killed_before_a_file_has_its_name_leaves_none_to_be_seen(tmp_path: Path) -> None:
    files(tmp_path).write([logged(request_id="before")])
    here = str(Path(__file__).parent)
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), here], check=False).returncode == -9
    assert len(files_in(tmp_path)) == 1
    assert len(list(tmp_path.rglob("*.part"))) == 1
    files(tmp_path).prepare()
    assert list(tmp_path.rglob("*.part")) == []
    assert pq.read_table(files_in(tmp_path)[0])["request_id"].to_pylist() == ["before"]


def test_what_is_too_old_and_the_oldest_of_too_much_goes_with_its_folders(tmp_path: Path) -> None:
    kept = files(tmp_path)
    names: list[Path] = []
    for hour in range(4):
        kept.write([logged(NOON + 3600 * hour)])
        [new] = set(files_in(tmp_path)) - set(names)
        names.append(new)
        age = timedelta(days=8) if hour == 0 else timedelta(hours=4 - hour)
        os.utime(new, (0, time.time() - age.total_seconds()))
    kept.sweep()
    assert files_in(tmp_path) == names[1:]
    assert not names[0].parent.exists()
    files(tmp_path, largest=2 * names[3].stat().st_size).sweep()
    assert files_in(tmp_path) == names[2:]
    files(tmp_path, largest=1).prepare()
    assert list((tmp_path / "requests").iterdir()) == []


async def test_it_writes_when_half_full_or_in_time_and_at_the_end_what_is_left(tmp_path: Path) -> None:
    log, stop = log_of(files(tmp_path), buffer=FIXED * 10), asyncio.Event()
    running = asyncio.create_task(log.run(stop))
    for _ in range(4):
        log.put(logged())
    await asyncio.sleep(0)
    assert files_in(tmp_path) == []
    log.put(logged())
    await eventually(lambda: len(files_in(tmp_path)) == 1)
    log.put(logged())
    stop.set()
    await running
    assert [pq.read_table(it).num_rows for it in files_in(tmp_path)].count(5) == 1
    assert sum(pq.read_table(it).num_rows for it in files_in(tmp_path)) == 6
    soon, again = log_of(files(tmp_path / "soon"), seconds=0.01), asyncio.Event()
    running = asyncio.create_task(soon.run(again))
    soon.put(logged())
    await eventually(lambda: len(files_in(tmp_path / "soon")) == 1)
    again.set()
    await running


class Stuck(RequestFiles):
    """A disk that takes its time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, largest=1, kept=timedelta(days=1))
        self.seen: list[int] = []
        self.broken: Exception | None = None

    def prepare(self) -> None: ...

    def sweep(self) -> None: ...

    def write(self, rows: list[Logged]) -> None:
        self.seen.append(len(rows))
        if self.broken is not None:
            raise self.broken


async def test_what_there_is_no_room_for_is_dropped_and_counted_and_what_is_being_written_counts(
    tmp_path: Path,
) -> None:
    disk = Stuck(tmp_path)
    log = log_of(disk, buffer=FIXED * 3)
    before = dropped("full")
    for _ in range(5):
        log.put(logged())
    assert dropped("full") == before + 2
    flushing = asyncio.create_task(log.flush())
    await asyncio.sleep(0)  # it has taken them, and no thread has written them yet
    log.put(logged())
    assert dropped("full") == before + 3
    await flushing
    log.put(logged())
    await log.flush()
    assert disk.seen == [3, 1]


async def test_rows_are_bounded_too(tmp_path: Path) -> None:
    disk = Stuck(tmp_path)
    log = log_of(disk, buffer=1 << 40)
    one, before = logged(), dropped("full")
    for _ in range(ROWS + 1):
        log.put(one)
    assert dropped("full") == before + 1
    await log.flush()
    assert disk.seen == [ROWS]


async def test_a_disk_that_takes_nothing_costs_the_log_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, before = Stuck(tmp_path), dropped("disk")
    disk.broken = OSError(28, "No space left on device")
    log = log_of(disk)
    log.put(logged())
    log.put(logged())
    await log.flush()
    assert dropped("disk") == before + 2
    assert "request log not written" in caplog.text
    disk.broken = None
    log.put(logged())
    await log.flush()
    assert disk.seen == [2, 1]


@pytest.mark.parametrize("fails", [OSError(28, "full"), OSError(13, "no")])
def test_a_file_that_cannot_get_its_name_leaves_nothing(tmp_path: Path, fails: OSError) -> None:
    def refuse(part: Path, path: Path) -> None:
        raise fails

    refusing: Callable[[Path, Path], object] = refuse
    with pytest.raises(OSError, match=fails.strerror or ""):
        files(tmp_path, publish=refusing).write([logged()])
    assert [it for it in tmp_path.rglob("*") if it.is_file()] == []


def test_half_of_all_are_taken_where_half_are_asked_for(tmp_path: Path) -> None:
    log = RequestLog(files(tmp_path), Bounds(0.5, 1, 1, 1))
    assert 400 < sum(log.takes(str(n)) for n in range(1000)) < 600
