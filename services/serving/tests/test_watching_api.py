"""What a process notices of its requests: metrics, the request log, slow ones, and spans."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from test_api_inference import as_json
from worlds import COLUMNS, rows, trained

from kit import tracing
from kit.testing import KeyFolder, eventually
from serving.settings import Settings

Start = Callable[..., Settings]
TRACE = "0af7651916cd43dd8448eb211c80319c"
NAMES = [column.name for column in COLUMNS]
LABELS = 'deployment="late",project="demo",revision="1"'


@pytest.fixture
async def sampled(
    settings: Start, key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> AsyncIterator[Serving]:
    """A process that logs every request, at once, takes all for slow, and speaks as Triton does."""
    made = settings(
        request_log_share=1.0,
        request_log_seconds=0.05,
        request_log_row_bytes=1000,
        slow_request_seconds=1e-9,
        triton_metrics=True,
    )
    registry.register("late", trained())
    async with Serving.started(made, key_folder) as it:
        await it.deploy("late", "late")
        yield it


def logged(folder: Path) -> list[dict[str, Any]]:
    files = (folder / "one/requests").rglob("*.parquet")
    rows: list[dict[str, Any]] = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    return sorted(rows, key=lambda row: row["time"])


async def test_a_request_is_logged_as_it_was_asked_and_answered(sampled: Serving, tmp_path: Path) -> None:
    asked = rows(2)
    headers = {"x-request-id": "mine", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = await sampled.http.post("/v1/deployments/late/predict", json={"rows": asked}, headers=headers)
    await sampled.http.post("/v2/models/late/infer", json=as_json(rows(1)))
    await eventually(lambda: len(logged(tmp_path)) == 2)
    first, second = logged(tmp_path)
    assert (first["request_id"], first["trace_id"]) == ("mine", TRACE)
    assert (first["project"], first["deployment"], first["revision"]) == ("demo", "late", 1)
    assert (first["model"], first["version"], first["status"], first["code"]) == ("late", 1, 200, "")
    assert (first["rows"], first["rows_kept"], first["batch_rows"]) == (2, 2, 2)
    assert json.loads(first["outputs"]) == answer.json()["predictions"]
    again = await sampled.predict("late", json.loads(first["inputs"]))
    assert again.json()["predictions"] == answer.json()["predictions"]
    parts = ("read_seconds", "queue_seconds", "compute_seconds", "write_seconds")
    assert first["compute_seconds"] > 0
    assert sum(first[name] for name in parts) <= first["seconds"] + 1e-5
    assert second["rows"] == 1


async def test_of_a_large_request_the_first_rows_are_kept_and_a_bad_one_has_its_status(
    sampled: Serving, tmp_path: Path
) -> None:
    await sampled.predict("late", rows(50))
    await sampled.http.post("/v1/deployments/late/predict", content=b'{"rows": [{"seats": 1}]}')
    await sampled.http.post("/v1/deployments/nobody/predict", content=b"{}")
    await eventually(lambda: len(logged(tmp_path)) == 2)
    large, bad = logged(tmp_path)
    assert (large["rows"], large["status"]) == (50, 200)
    assert 0 < large["rows_kept"] < 20
    assert len(json.loads(large["inputs"])) == len(json.loads(large["outputs"])) == large["rows_kept"]
    assert (bad["status"], bad["code"], bad["inputs"], bad["outputs"]) == (422, "rows-invalid", "[]", "[]")


async def test_a_slow_request_says_where_its_time_went_and_a_flood_of_them_little(
    sampled: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "serving.api.watching"):
        for number in range(30):
            await sampled.http.post(
                "/v1/deployments/late/predict", json={"rows": rows(1)}, headers={"x-request-id": f"r{number}"}
            )
    said = [vars(record) for record in caplog.records if record.message == "slow request"]
    assert 20 <= len(said) < 30
    assert (said[0]["request_id"], len(said[0]["trace_id"]), said[0]["status"]) == ("r0", 32, 200)
    assert said[0]["compute_seconds"] > 0
    assert {"deployment", "revision", "model", "version", "rows", "queue_seconds", "read_seconds"} <= said[0].keys()


async def test_metrics_say_queue_batch_and_compute_and_the_same_as_triton_would(sampled: Serving) -> None:
    await sampled.predict("late", rows(7))
    await sampled.predict("late", rows(2))
    await sampled.http.post("/v1/deployments/late/predict", content=b'{"rows": []}')
    text = (await sampled.http.get("/metrics")).text
    for name in ("seconds", "queue_seconds", "compute_seconds", "batch_rows", "batch_requests"):
        assert f"trainyard_predict_{name}_count{{{LABELS}}} 2.0" in text, name
    assert f"trainyard_predict_batch_rows_sum{{{LABELS}}} 9.0" in text
    assert 'trainyard_predict_batch_rows_bucket{deployment="late",le="2.0",project="demo",revision="1"} 1.0' in text
    assert f"trainyard_predict_refused_total{{{LABELS}}} 0.0" in text
    assert "\ntrainyard_resident_bytes 0.0" not in text
    triton = 'model="late",project="demo",version="1"'
    assert f"nv_inference_request_success{{{triton}}} 2.0" in text
    assert f"nv_inference_request_failure{{{triton}}} 0.0" in text
    assert f"nv_inference_count{{{triton}}} 9.0" in text
    assert f"nv_inference_exec_count{{{triton}}} 2.0" in text
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert f"nv_inference_{name}_duration_us{{{triton}}}" in text, name


async def test_nothing_of_that_is_there_unless_it_is_asked_for(
    serving: Serving, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    with caplog.at_level(logging.WARNING, "serving.api.watching"):
        assert (await serving.predict("late", rows(1))).is_success
    assert "nv_inference" not in (await serving.http.get("/metrics")).text
    assert not (tmp_path / "one/requests").exists()
    assert caplog.text == ""


async def test_counts_go_on_when_a_model_was_away(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    await serving.predict("late", rows(3))
    (await serving.http.post("/v2/repository/models/late/unload")).raise_for_status()
    assert "trainyard_resident_bytes 0.0" in (await serving.http.get("/metrics")).text
    await serving.predict("late", rows(4))
    await serving.predict("late", rows(5))
    [found] = (await serving.http.get("/v2/models/late/stats")).json()["model_stats"]
    assert (found["inference_count"], found["inference_stats"]["success"]["count"]) == (12, 3)
    assert f"trainyard_predicted_rows_total{{{LABELS}}} 12.0" in (await serving.http.get("/metrics")).text


async def test_the_span_of_a_request_says_where_its_time_went(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    spans: list[tracing.Span] = []
    with tracing.sent_to(spans.append):
        for flags in ("01", "00"):
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flags}"}
            await serving.http.post("/v1/deployments/late/predict", json={"rows": rows(3)}, headers=headers)
        await serving.http.post("/v1/deployments/late/predict", content=b'{"rows": []}')
    mine = [it for it in spans if "predict" in it.name and TRACE in it.context]
    assert len(mine) == 1
    said = mine[0].attributes
    assert (said["trainyard.deployment"], said["trainyard.revision"], said["trainyard.batch_rows"]) == ("late", 1, 3)
    assert float(said["trainyard.compute_seconds"]) > 0
    assert {"trainyard.queue_seconds", "trainyard.read_seconds", "trainyard.write_seconds"} <= said.keys()
    assert "trainyard.code" not in said
