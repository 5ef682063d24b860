"""A batch between processes, a real ingest among them, while they are killed: each row once, as predict answers it."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest
from processes import Process, free_port
from registries import Registry
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import COLUMNS, rows, trained

from kit.testing import DatabaseUrl, EngineOf, KeyFolder, eventually
from serving.settings import Settings

ROWS = 1_000_000 if "TRAINYARD_CHAOS" in os.environ else 200_000
DISTINCT = 500
COMPARED = 400
LONG = timedelta(seconds=90 if ROWS < 1_000_000 else 600)
BATCHES = "/v1/deployments/late/batches"
ASKED = {"dataset": "flights@1", "output": "answers"}
SCHEMA = [{"name": "id", "type": "integer"}, *({"name": it.name, "type": it.type} for it in COLUMNS)]
POINTS = ("serving.part.after_bring", "serving.part.before_commit", "serving.batch.after_assembled")


class Neighbour:
    """Ingest, in a process that can be killed and started again on the same port."""

    def __init__(self, environment: dict[str, str], keys: KeyFolder) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._keys = keys
        # Tokens live shorter than this test.
        told = {"request": [self._signed]}
        self.http = httpx2.AsyncClient(base_url=self.url, event_hooks=told, trust_env=False, timeout=60)
        self._environment = {**environment, "INGEST_PORT": str(self.port), "PATH": os.environ["PATH"]}
        self._process: asyncio.subprocess.Process | None = None

    async def _signed(self, request: httpx2.Request) -> None:
        request.headers.update(self._keys.headers("ingest"))

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest", "all", env=self._environment, stderr=asyncio.subprocess.DEVNULL
        )
        await eventually(self._is_ready, LONG)

    def tell(self, environment: dict[str, str]) -> None:
        """More, from the next start on."""
        self._environment |= environment

    async def keep(self) -> None:
        """Start it, and start it again whenever it ends."""
        while True:
            with contextlib.suppress(RuntimeError):
                await self.start()
            assert self._process is not None
            await self._process.wait()

    async def _is_ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise RuntimeError("It ended.")
        with contextlib.suppress(httpx2.TransportError):
            return (await self.http.get("/readyz")).is_success
        return False

    async def end(self, by: signal.Signals = signal.SIGKILL) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(by)
        await self._process.wait()


@pytest.fixture
async def ingest(
    engine_of: EngineOf, database_url: DatabaseUrl, key_folder: KeyFolder, tmp_path: Path
) -> AsyncIterator[Neighbour]:
    await engine_of("ingest")
    environment = {
        "INGEST_DATABASE_URL": database_url("ingest"),
        "INGEST_PRIVATE_KEY_FILE": str(key_folder.private("ingest")),
        "INGEST_PUBLIC_KEYS_FILE": str(key_folder.public),
        "INGEST_OBJECTS_URL": (tmp_path / "objects").as_uri(),
        "INGEST_WORK_DIR": str(tmp_path / "ingest"),
    }
    it = Neighbour(environment, key_folder)
    async with it.http:
        await it.start()
        yield it
        await it.end(signal.SIGTERM)


async def flights(ingest: Neighbour, count: int = ROWS) -> None:
    """As many rows, of which some are alike."""
    lines = [json.dumps(row) for row in rows(DISTINCT)]
    body = "".join(f'{{"id": {n}, {lines[n % DISTINCT][1:]}\n' for n in range(count)).encode()
    wanted = {"name": "flights", "settings": {"columns": SCHEMA}}
    (await ingest.http.post("/v1/datasets", json=wanted)).raise_for_status()
    path, kind = "/v1/datasets/flights/versions", {"content-type": "application/x-ndjson"}
    (await ingest.http.post(path, content=body, headers=kind)).raise_for_status()

    async def is_ready() -> bool:
        return bool((await ingest.http.get(f"{path}/1")).json()["status"]["phase"] == "ready")

    await eventually(is_ready, LONG)


@pytest.mark.slow
async def test_each_row_is_answered_once_whatever_is_killed(
    ingest: Neighbour,
    settings: Callable[..., Settings],
    key_folder: KeyFolder,
    engine: AsyncEngine,
    registry: Registry,
    tmp_path: Path,
) -> None:
    registry.register("late", trained())
    await flights(ingest)
    of = settings(ingest_url=ingest.url)
    async with Process.started(of, key_folder, "all") as serving:
        put = await serving.http.put("/v1/deployments/late", json={"model": "late"})
        assert put.status_code == 201
        ready = await serving.http.get("/v1/deployments/late", params={"wait": "30s"})
        assert ready.json()["status"]["phase"] == "ready"
        batch = (await serving.http.post(BATCHES, json=ASKED)).raise_for_status().json()["id"]
        await eventually(lambda: _share(serving, batch, 0.1), LONG)
        serving.process.kill()
        await serving.process.wait()
    for point in POINTS:
        told = {"TRAINYARD_FAILPOINTS": f"{point}=kill", "TRAINYARD_FAILPOINTS_DIR": str(tmp_path)}
        async with Process.started(of, key_folder, "all", told) as serving:
            await asyncio.wait_for(serving.process.wait(), LONG.total_seconds())
            assert serving.process.returncode == -signal.SIGKILL
        if point == POINTS[1]:
            await ingest.end()
            await ingest.start()
    async with Process.started(of, key_folder, "all") as serving:
        done = await _ended(serving, batch)
        assert done["status"]["phase"] == "succeeded", done
        assert done["progress"] == {"rows": ROWS, "rows_done": ROWS, "refused": 0}
        assert done["result"]["dataset"] == "answers@1"
        made = await _rows(ingest, "/v1/datasets/answers/versions/1")
        assert [row["row_number"] for row in made] == list(range(1, ROWS + 1))
        source = await _rows(ingest, "/v1/datasets/flights/versions/1")
        names = [it["name"] for it in SCHEMA]
        assert [[row[name] for name in names] for row in made] == [[row[name] for name in names] for row in source]
        versions = (await ingest.http.get("/v1/datasets/answers/versions")).json()["items"]
        assert [(it["lineage"]["batch"], it["lineage"]["dataset"]) for it in versions] == [(batch, "flights@1")]
        shown = (await ingest.http.get("/v1/datasets/answers/versions/1/rows", params={"page_size": "1000"})).json()
        for row in shown["items"][:COMPARED]:
            one = {it.name: row[it.name] for it in COLUMNS}
            said = (await serving.http.post("/v1/deployments/late/predict", json={"rows": [one]})).json()
            assert said["predictions"] == [{"label": row["prediction"], "score": row["prediction_score"]}]


def fired_in(folder: Path) -> set[str]:
    return {it.stem for it in folder.glob("*.fired")}


def points_of(service: str, *prefixes: str) -> set[str]:
    """The `failpoint("…")`s of a service that begin so."""
    found: set[str] = set()
    for file in (Path(__file__).parents[2] / service / "src").rglob("*.py"):
        found |= set(re.findall(r'failpoint\("([^"]+)"', file.read_text()))
    return {it for it in found if it.startswith(prefixes)}


@pytest.mark.slow
@pytest.mark.skipif("TRAINYARD_CHAOS" not in os.environ, reason="many kills: TRAINYARD_CHAOS=1")
async def test_a_kill_at_every_point_changes_nothing_but_the_time(
    ingest: Neighbour,
    settings: Callable[..., Settings],
    key_folder: KeyFolder,
    engine: AsyncEngine,
    registry: Registry,
    tmp_path: Path,
) -> None:
    registry.register("late", trained())
    await flights(ingest, DISTINCT)
    await ingest.end()
    of, one = settings(ingest_url=ingest.url), rows(1)
    mine, theirs = (
        points_of("serving", "serving.batch.", "serving.part.", "serving.prediction."),
        points_of("ingest", "ingest.part.", "ingest.assembly."),
    )
    assert len(mine) >= 12
    assert len(theirs) == 3
    async with Process.started(of, key_folder, "all") as serving:
        await serving.http.put("/v1/deployments/late", json={"model": "late"})
        await serving.http.get("/v1/deployments/late", params={"wait": "30s"})
    fired = {"TRAINYARD_FAILPOINTS_DIR": str(tmp_path)}
    ingest.tell(fired | {"TRAINYARD_FAILPOINTS": ",".join(f"{it}=kill" for it in theirs)})
    told = fired | {"TRAINYARD_FAILPOINTS": ",".join(f"{it}=kill" for it in mine)}
    asked: dict[str, str] = {}
    done: dict[str, Any] = {}
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(ingest.keep())
        while not done:
            with contextlib.suppress(httpx2.TransportError, RuntimeError):
                async with Process.started(of, key_folder, "all", told) as serving:
                    done = await _gone_through(serving, asked, one)
        keeper.cancel()
    assert fired_in(tmp_path) == mine | theirs
    assert done["batch"]["status"]["phase"] == "succeeded", done
    assert [row["row_number"] for row in await _rows(ingest, "/v1/datasets/answers/versions/1")] == [*range(1, 501)]
    assert len((await ingest.http.get("/v1/datasets/answers/versions")).json()["items"]) == 1
    async with Process.started(of, key_folder) as serving:
        said = (await serving.http.post("/v1/deployments/late/predict", json={"rows": one})).json()
    assert done["later"]["answer"] == said


async def _gone_through(serving: Process, asked: dict[str, str], one: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask one after the other, with the same keys each time, and see each ended; or end with the process."""
    found: dict[str, Any] = {}
    later = "/v1/deployments/late/predictions"
    # One after the other: a kill for the one must not come before the other has reached its own.
    for what, path, body in (("later", later, {"rows": one}), ("batch", BATCHES, ASKED)):
        if what not in asked:
            taken = await serving.http.post(path, json=body, headers={"idempotency-key": what})
            asked[what] = taken.headers["location"]
        while what not in found:
            shown = (await serving.http.get(asked[what], params={"wait": "5s"})).json()
            found |= {what: shown} if shown.get("finished_at") else {}
    # The last points are behind the end.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(serving.process.wait(), 15)
    return found if serving.process.returncode is None else {}


async def _share(serving: Process, batch: str, share: float) -> bool:
    seen = (await serving.http.get(f"{BATCHES}/{batch}")).json()["progress"]
    return bool(seen["rows_done"] >= share * max(seen["rows"], 1))


async def _ended(serving: Process, batch: str) -> dict[str, Any]:
    async def is_over() -> dict[str, Any]:
        found = (await serving.http.get(f"{BATCHES}/{batch}")).json()
        return dict(found) if found["finished_at"] else {}

    found: dict[str, Any] = await eventually(is_over, LONG)
    return found


async def _rows(ingest: Neighbour, version: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for shard in (await ingest.http.get(f"{version}/shards")).json()["shards"]:
        content = (await ingest.http.get(f"{version}/shards/{shard['digest']}")).content
        found += pq.read_table(io.BytesIO(content)).to_pylist()
    return found
