"""What the demo makes of the suite's answers."""

import io
import json
from pathlib import Path
from typing import Any

import demo
import pytest
import yaml
from rich.console import Console

from trainyard.results import DatasetVersion, ModelVersion, Run

DIGEST = "sha256:" + "ab" * 32
ROW = {"carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH", "scheduled_at": "2013-01-01T10:15:00Z"}


@pytest.fixture
def asked() -> demo.Asked:
    examples = [({**ROW, "late": score > 0.5}, {"label": score > 0.5, "score": score}) for score in (0.1, 0.9, 0.4)]
    return demo.Asked([2.0, 3.0, 4.0], examples)


@pytest.fixture
def facts(asked: demo.Asked) -> dict[str, Any]:
    steps = [{"name": str(n), "kind": "train", "status": {"phase": "reused"}} for n in range(5)]
    run = Run.of({"id": "r1", "pipeline": "flight-delays", "status": {"phase": "succeeded"}, "steps": steps})
    version = DatasetVersion.of(
        {
            "dataset": "flights",
            "version": 1,
            "digest": DIGEST,
            "status": {"phase": "ready"},
            "rows": 327_346,
            "rejected": 9_430,
            "splits": {"train": 254_224, "held_out": 73_122},
        }
    )
    metrics = {
        "roc_auc": 0.736,
        "baseline_roc_auc": 0.669,
        "average_precision": 0.5,
        "baseline_average_precision": 0.37,
    }
    model = ModelVersion.of(
        {
            "model": "flight-delays",
            "version": 1,
            "digest": DIGEST,
            "metrics": metrics,
            "formats": [{"format": "skops"}, {"format": "onnx"}],
        }
    )
    return demo.facts_of(run, version, model, asked) | {
        "deployment": "flight-delays",
        "revision": "r1",
        "seconds": 12.3,
        "api": "http://127.0.0.1:8080/v1",
        "swagger_ui": "http://127.0.0.1:8080/docs",
    }


def shown(facts: dict[str, Any], asked: demo.Asked) -> str:
    console = Console(file=io.StringIO(), width=120)
    demo.show(facts, asked, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        "flights@1",
        DIGEST,
        "336,776 in, 9,430 rejected",
        "0.736 on held-out days",
        "0.669",
        "flight-delays@1 (skops, onnx)",
        "p50 3.0 ms",
        "http://127.0.0.1:8080/docs",
        "make down",
        "every step was reused",
    ],
)
def test_the_table_has_it(facts: dict[str, Any], asked: demo.Asked, words: str) -> None:
    assert words in shown(facts, asked)


def test_the_flights_shown_are_the_likeliest_and_the_least_likely(facts: dict[str, Any], asked: demo.Asked) -> None:
    assert shown(facts, asked).index("0.900") < shown(facts, asked).index("0.100")


def test_the_facts_are_json(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts))["latency_ms"] == {"p50": 3.0, "p95": 3.9}


def test_a_wrong_period_ends_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--data", "1999"]) == 1
    assert "1999" in capsys.readouterr().err


def test_the_pipeline_learns_of_nothing_that_is_the_answer() -> None:
    steps = yaml.safe_load((Path(demo.HERE) / "pipeline.yaml").read_text())["steps"]
    features = set(steps["train"]["with"]["features"])
    columns = {column["name"] for column in steps["ingest"]["with"]["settings"]["columns"]}
    assert features < columns
    assert features & {"late", "year", "day", "flight"} == set()
