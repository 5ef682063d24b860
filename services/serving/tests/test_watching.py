"""What is told of a request: to the log, to the request log, to its span, and to those who ask for metrics."""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from prometheus_client import generate_latest
from starlette.types import Message
from targets import target

from kit import bodies, errors, tracing
from kit.callers import Caller, Role
from models.signature import Arrays, Field, Prediction, Signature
from serving.api import at_once
from serving.api.predict import admitted, asked
from serving.api.watching import LINES, Watch, Watching
from serving.domain.costs import Cost
from serving.domain.desired import Desired
from serving.domain.limits import Limits
from serving.replica.lanes import Queueing
from serving.replica.request_log import Bounds, RequestFiles, RequestLog
from serving.replica.residents import Here, Threads
from serving.replica.table import Answering, Live, Table
from serving.replica.watched import WATCHED

SIGNATURE = Signature.of([Field("a", "number"), Field("b", "number")], "regression")
CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LABELS = 'deployment="late",project="demo",revision="1"'


class Half:
    """A model that says 0.5."""

    signature = SIGNATURE

    def predict(self, arrays: Arrays) -> Prediction:
        return Prediction(np.full(len(arrays["a"]), 0.5, np.float32), None)


class World:
    """A deployment of it, in a process that logs every request."""

    def __init__(self, folder: Path, threads: Threads, cost: float = 1e-5, *, slow: float = 60.0) -> None:
        files = RequestFiles(folder / "requests", largest=1 << 20, kept=timedelta(days=1))
        self.folder = folder / "requests"
        self.log = RequestLog(files, Bounds(1.0, 1000, 1 << 20, 60))
        self.table = Table()
        self.parts = SimpleNamespace(table=self.table, watch=Watch(self.log, slow=slow))
        resident = Here(Half(), Cost(cost, 1e-6), threads, 123)
        self.serve(resident)

    def serve(self, resident: Here) -> None:
        one = Answering(target(), resident, lane=resident.lane(Limits()))
        self.table.put(Live(Desired("demo", "late", KEY, 1, (one.target,)), (one,)))

    @property
    def live(self) -> Live:
        return self.table.find("demo", "late")

    def scope(self, identity: str) -> dict[str, Any]:
        state = {"parts": self.parts, "request_id": identity, "traceparent": CONTEXT}
        return {"type": "http", "headers": [], "state": state}

    def watching(self, identity: str) -> Watching:
        return Watching(self.scope(identity), self.live, self.live.answering[0], time.perf_counter())

    async def ask(self, identity: str, rows: int) -> None:
        """On the long way."""
        with self.watching(identity) as watching:
            until = await admitted(watching)
            column = np.zeros((rows, 1), np.float32)
            await asked(watching, {"a": column, "b": column}, never, until)

    async def logged(self) -> list[dict[str, Any]]:
        await self.log.flush()
        found = ds.dataset(self.folder, partitioning="hive").to_table().to_pylist()
        return sorted(found, key=lambda row: str(row["request_id"]))


KEY = uuid.uuid4()


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(1, Queueing(10))
    yield made
    made.close()


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("nothing ever comes")


async def test_what_is_answered_at_once_is_told_with_the_trace_that_it_belongs_to(
    tmp_path: Path, threads: Threads
) -> None:
    world = World(tmp_path, threads)
    scope, caller = world.scope("r1"), Caller("demo", Role.VIEWER, "somebody", "gateway")
    with tracing.sent_to(lambda span: None):
        body = b'{"rows": [{"a": 1.5, "b": 2.5}]}'
        assert at_once.predicted(scope, caller, {"name": "late"}, {}, body) is not None
    [row] = await world.logged()
    assert (row["request_id"], row["trace_id"], row["status"]) == ("r1", CONTEXT[3:35], 200)
    assert (row["inputs"], row["outputs"]) == ('[{"a":1.5,"b":2.5}]', '[{"value":0.5}]')
    assert row["hour"] == row["time"].strftime("%Y-%m-%dT%H")
    span = scope["state"]["span"]
    assert (span["trainyard.deployment"], span["trainyard.batch_rows"]) == ("late", 1)
    assert span["trainyard.compute_seconds"] == row["compute_seconds"] > 0
    assert "trainyard.code" not in span


async def test_who_queues_together_is_told_of_the_batch(tmp_path: Path, threads: Threads) -> None:
    world = World(tmp_path, threads, cost=0.01)
    await asyncio.gather(*(world.ask(str(n), 2) for n in range(3)))
    found = await world.logged()
    assert [(row["rows"], row["batch_rows"]) for row in found] == [(2, 6)] * 3
    assert len({row["compute_seconds"] for row in found}) == 1
    assert all(row["queue_seconds"] > 0 for row in found)
    tally = world.live.answering[0].tally
    assert (tally.requests, tally.executions, tally.batch_requests.sum) == (3, 1, 3)


async def test_metrics_are_read_from_what_answers_and_end_with_it(tmp_path: Path, threads: Threads) -> None:
    world = World(tmp_path, threads)
    await world.ask("r", 7)
    with WATCHED.watching(world.table):
        text = generate_latest().decode()
        for name in ("seconds", "queue_seconds", "compute_seconds", "batch_rows", "batch_requests"):
            assert f"trainyard_predict_{name}_count{{{LABELS}}} 1.0" in text, name
        assert f"trainyard_predicted_rows_total{{{LABELS}}} 7.0" in text
        assert "trainyard_resident_bytes 123.0" in text
        assert "nv_inference" not in text
        world.table.drop(world.live)
        assert LABELS not in generate_latest().decode()


async def test_triton_s_names_say_the_same(tmp_path: Path, threads: Threads) -> None:
    world = World(tmp_path, threads)
    await world.ask("r", 7)
    await world.ask("s", 2)
    with WATCHED.watching(world.table, triton=True):
        text = generate_latest().decode()
    labels = 'model="late",project="demo",version="1"'
    assert f"nv_inference_request_success{{{labels}}} 2.0" in text
    assert f"nv_inference_request_failure{{{labels}}} 0.0" in text
    assert f"nv_inference_count{{{labels}}} 9.0" in text
    assert f"nv_inference_exec_count{{{labels}}} 2.0" in text
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert f"nv_inference_{name}_duration_us{{{labels}}}" in text, name


async def test_a_revision_whose_model_was_away_goes_on_counting(tmp_path: Path, threads: Threads) -> None:
    world = World(tmp_path, threads)
    await world.ask("r", 7)
    world.serve(Here(Half(), Cost(0.01, 0.0), threads))
    await world.ask("s", 2)
    tally = world.live.answering[0].tally
    assert (tally.rows, tally.executions) == (9, 2)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Invalid("no"), 422, "validation-failed"),
        (ZeroDivisionError(), 500, ""),
        (bodies.ClientGone(), 0, ""),
    ],
)
async def test_what_fails_is_told_with_its_status(
    tmp_path: Path, threads: Threads, error: Exception, status: int, code: str
) -> None:
    world = World(tmp_path, threads)
    with pytest.raises(type(error)), world.watching("r"):
        raise error
    [row] = await world.logged()
    assert (row["status"], row["code"], row["inputs"]) == (status, code, "[]")


async def test_what_ends_with_the_process_is_not_told(tmp_path: Path, threads: Threads) -> None:
    world = World(tmp_path, threads)
    with pytest.raises(asyncio.CancelledError), world.watching("r"):
        raise asyncio.CancelledError
    await world.log.flush()
    assert not world.folder.exists()


async def test_slow_requests_say_where_the_time_went_and_a_flood_of_them_little(
    tmp_path: Path, threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    quick, slow = World(tmp_path, threads), World(tmp_path, threads, slow=1e-9)
    with caplog.at_level(logging.WARNING, "serving.api.watching"):
        await quick.ask("r", 1)
        assert caplog.records == []
        for number in range(LINES + 5):
            await slow.ask(f"r{number}", 1)
    said = [vars(record) for record in caplog.records]
    assert LINES <= len(said) < LINES + 5
    assert (said[0]["message"], said[0]["request_id"], said[0]["status"]) == ("slow request", "r0", 200)
    assert said[0]["compute_seconds"] > 0
    assert {"deployment", "revision", "model", "rows", "queue_seconds", "read_seconds", "withheld"} <= said[0].keys()


async def test_whatever_is_wrong_with_what_is_told_the_answer_is_given(
    tmp_path: Path, threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, threads)
    watching = world.watching("r")
    del watching.scope["state"]["request_id"]
    with watching:
        pass
    assert "a request was not told of" in caplog.text
    assert world.live.answering[0].tally.requests == 1
