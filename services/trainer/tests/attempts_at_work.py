"""What the tests of the in-job program share: a folder with a job in it, and an attempt's URL that remembers."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.domain.attempts import JOB_FILE, RESULT_FILE, AttemptJob, AttemptResult, Shard, TrainingSpec

HIST = "sklearn.ensemble.HistGradientBoostingClassifier"
FAST = {"class": HIST, "parameters": {"max_iter": 20}}


class Attempt:
    """The trainer's side of an attempt: a real server on loopback, answering as told and keeping what it is sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.called = threading.Condition()
        attempt = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                kind = self.path.rpartition("/")[2]
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with attempt.called:
                    attempt.calls.append((self.headers["Authorization"], kind, body))
                    attempt.called.notify_all()
                status, answer = attempt.answers.get(kind, (200, b'{"stop": false}'))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/internal/v1/attempts/a1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hears(self, line: str, timeout: float = 30) -> bool:
        """Wait for a line of the log."""
        with self.called:
            return self.called.wait_for(lambda: line in self.lines, timeout)

    def entries(self, kind: str, envelope: str) -> list[dict[str, Any]]:
        return [entry for _, called, body in self.calls if called == kind for entry in body[envelope]]

    @property
    def lines(self) -> list[str]:
        return [entry["message"] for entry in self.entries("logs", "entries")]


def flights(rows: int, seed: int = 0) -> pa.Table:
    """A table with numbers, gaps, categories and times, and a label that depends on them."""
    random = np.random.default_rng(seed)
    hour = random.integers(0, 24, rows)
    carrier = random.choice(["AA", "B6", "UA"], rows)
    wind = random.normal(10, 5, rows)
    late = (hour / 8 + (carrier == "UA") + wind / 5 + random.normal(0, 1, rows)) > 4
    return pa.table(
        {
            "carrier": pa.array(carrier, mask=random.random(rows) < 0.05),
            "hour": pa.array(hour),
            "wind": pa.array(wind, mask=random.random(rows) < 0.1),
            "cargo": pa.array(random.random(rows) < 0.2),
            "seats": pa.array(random.integers(20, 400, rows), pa.int32()).cast(pa.decimal128(14, 2)),
            "time_hour": pa.array(hour * 3_600_000_000, pa.timestamp("us", tz="UTC")),
            "day": pa.array(random.integers(0, 10_000, rows).astype("int32"), pa.date32()),
            "late": pa.array(late),
            "delay": pa.array(wind * 3 + hour),
        }
    )


def prepare(
    folder: Path,
    url: str,
    *,
    train: pa.Table | None = None,
    held_out: pa.Table | None = None,
    twin_seconds: float = 60.0,
    memory_bytes: int | None = None,
    **spec: Any,
) -> Path:
    """Write shards and `job.json`."""
    shards = []
    for split, table in (("train", train), ("held_out", held_out)):
        for index, part in enumerate([] if table is None else (table.slice(0, 100), table.slice(100))):
            path = folder / f"{split}-{index}.parquet"
            pq.write_table(part, path)
            digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            shards.append(Shard(path=path.name, split=split, rows=part.num_rows, digest=digest))
    body = {"task": "classification", "target": "late", "estimator": FAST, "features": FEATURES} | spec
    job = AttemptJob(
        job="j1",
        attempt="a1",
        url=url,
        token="secret-of-a1",
        spec=TrainingSpec.from_json(body),
        shards=tuple(shards),
        heartbeat_seconds=0.2,
        twin_seconds=twin_seconds,
        memory_bytes=memory_bytes,
    )
    (folder / JOB_FILE).write_text(json.dumps(job.to_json()))
    return folder


FEATURES = ["carrier", "hour", "wind", "cargo", "seats", "time_hour", "day"]


def result_of(folder: Path) -> AttemptResult:
    """What the program left."""
    return AttemptResult.from_json(json.loads((folder / RESULT_FILE).read_text()))


def start(folder: Path, **environment: str) -> "subprocess.Popen[bytes]":
    """The program as the runner starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.runtime", str(folder)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
