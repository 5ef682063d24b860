"""ingest as it is started, and killed."""

import asyncio
import gzip
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import ingest
from ingest.app import loops
from ingest.domain.versions import Phase
from ingest.settings import Settings
from ingest.store.tables import versions
from kit.tables import audit, blob_links, events
from kit.testing import KeyFolder, eventually

PATIENCE = timedelta(minutes=3)
ROWS = b"id,late\n" + b"".join(b"%d,%s\n" % (n, b"NA" if n % 10 == 0 else b"true") for n in range(1000))
SETTINGS = {"nulls": ["NA"], "key": ["id"], "checks": [{"column": "late", "check": "not_null"}]}
POINTS = {
    point
    for path in Path(next(iter(ingest.__path__))).rglob("*.py")
    for point in re.findall(r'failpoint\(\s*"([^"]+)"', path.read_text())
    # What other services bring in parts is killed where they do: services/serving/tests/test_batches_with_ingest.py.
    if not point.startswith(("ingest.part", "ingest.assembly"))
}


class Process:
    """`python -m ingest MODE`, started again whenever it is found dead."""

    def __init__(self, settings: Settings, **env: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        named: Mapping[str, Any] = {
            "DATABASE_URL": settings.url,
            "OBJECTS_URL": settings.objects_url,
            "WORK_DIR": settings.work_dir,
            "PRIVATE_KEY_FILE": settings.private_key_file,
            "PUBLIC_KEYS_FILE": settings.public_keys_file,
            "PORT": self.port,
        }
        self.env = {**os.environ, **{f"INGEST_{name}": str(value) for name, value in named.items()}, **env}
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def run(self, mode: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run([sys.executable, "-m", "ingest", mode], env=self.env, capture_output=True, text=True)

    def is_dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def up(self) -> None:
        if self.is_dead():
            self.starts += 1
            self._process = subprocess.Popen([sys.executable, "-m", "ingest", "all"], env=self.env)

    def end(self, sends: signal.Signals = signal.SIGTERM) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(sends)
        return self._process.wait()

    async def ask(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Until there is an answer, whoever dies meanwhile."""

        async def once() -> httpx2.Response | None:
            self.up()
            try:
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
                    answer = await client.request(method, path, **request)
            except httpx2.TransportError:
                return None
            return answer if answer.status_code < 500 else None

        answer = await eventually(once, PATIENCE)
        assert answer is not None
        return answer


@pytest.fixture
def process(engine: AsyncEngine, settings: Settings, tmp_path: Path) -> Iterator[Process]:
    points = tmp_path / "points"
    points.mkdir()
    asked = ",".join(f"{point}=kill" for point in sorted(POINTS))
    it = Process(settings, TRAINYARD_FAILPOINTS=asked, TRAINYARD_FAILPOINTS_DIR=str(points))
    yield it
    it.end(signal.SIGKILL)


async def test_an_upload_becomes_rows_and_the_process_ends_well(
    engine: AsyncEngine, settings: Settings, key_folder: KeyFolder
) -> None:
    process = Process(settings)
    assert process.run("migrate").returncode == 0
    headers = key_folder.headers("ingest", project="blue")
    try:
        digest = (await process.ask("POST", "/v1/uploads", content=gzip.compress(ROWS), headers=headers)).json()
        await process.ask("POST", "/v1/datasets", json={"name": "flights", "settings": SETTINGS}, headers=headers)
        body = {**digest, "compression": "gzip"}
        body.pop("size")
        await process.ask("POST", "/v1/datasets/flights/versions", json=body, headers=headers)
        done = await process.ask("GET", "/v1/datasets/flights/versions/1?wait=30s", headers=headers)
        assert done.json()["status"] == {"phase": "ready", "reason": "", "message": ""}
        assert (done.json()["rows"], done.json()["rejected"]) == (900, 100)
    finally:
        code = process.end()
    assert (code, process.starts) == (0, 1)


@pytest.mark.slow
async def test_a_kill_at_every_named_point_changes_nothing_but_the_time(
    engine: AsyncEngine, process: Process, key_folder: KeyFolder, tmp_path: Path
) -> None:
    headers = key_folder.headers("ingest", project="blue")
    await process.ask("PUT", "/v1/datasets/flights", json={"settings": SETTINGS}, headers=headers)
    keyed = {**headers, "idempotency-key": "upload"}
    upload = await process.ask("POST", "/v1/uploads", content=ROWS, headers=keyed)
    assert upload.json()["upload"] == f"sha256:{hashlib.sha256(ROWS).hexdigest()}"
    keyed = {**headers, "idempotency-key": "version"}
    body = {"upload": upload.json()["upload"]}
    made = await process.ask("POST", "/v1/datasets/flights/versions", json=body, headers=keyed)
    assert (made.status_code, made.json()["version"], made.json()["reused_from"]) == (202, 1, None)

    async def ready() -> bool:
        if process.is_dead():
            await _let_leases_run_out(engine)
        # New ones, since tokens live for a minute.
        headers = key_folder.headers("ingest", project="blue")
        seen = await process.ask("GET", "/v1/datasets/flights/versions/1?wait=1s", headers=headers)
        return bool(seen.json()["status"]["phase"] == "ready")

    await eventually(ready, PATIENCE)
    # It may die once more, right after it has said so to the database.
    await eventually(lambda: {path.stem for path in (tmp_path / "points").iterdir()} == POINTS, PATIENCE)
    assert process.starts > len(POINTS) / 2
    async with engine.begin() as connection:
        found = (await connection.execute(sa.select(versions))).one()
        kinds = list((await connection.execute(sa.select(events.c.kind))).scalars())
        did = sorted((await connection.execute(sa.select(audit.c.noun))).scalars())
        linked = len((await connection.execute(sa.select(blob_links))).all())
    assert (found.phase, found.contents["rows"], found.contents["rejected"]) == (Phase.READY, 900, 100)
    assert kinds == ["dataset.version.ready"]
    assert did == ["dataset", "dataset-version", "upload"]
    assert linked == 5  # the source, a shard for each side, rejects, profile


async def _let_leases_run_out(engine: AsyncEngine) -> None:
    """As if the half minute had passed for which a dead process's lease stays."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(versions).where(versions.c.lease_until.is_not(None)).values(lease_until=sa.func.now())
        )


def test_there_is_a_point_before_and_after_each_durable_effect() -> None:
    names = {point.rpartition(".")[0] for point in POINTS}
    assert names == {"ingest.upload", "ingest.version", "ingest.parse", "ingest.shard", "ingest.settle"}
    assert len(POINTS) == 12


async def test_the_loops_end_when_they_are_told(engine: AsyncEngine, settings: Settings) -> None:
    stop = asyncio.Event()
    work = settings.work_dir / "parse-left"
    work.mkdir(parents=True)
    os.utime(work, (time.time() - 86_400,) * 2)
    running = asyncio.create_task(loops(settings, stop))
    await eventually(lambda: not work.exists())
    stop.set()
    await asyncio.wait_for(running, 10)


def test_a_process_without_a_setting_does_not_start(settings: Settings, tmp_path: Path) -> None:
    process = Process(settings)
    del process.env["INGEST_OBJECTS_URL"]
    done = process.run("migrate")
    assert done.returncode != 0
    assert "INGEST_OBJECTS_URL" in done.stderr
