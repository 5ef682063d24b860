"""What the demo makes of the suite's answers."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import demo
import pytest
import things
import yaml
from fake_suite import Answer, FakeSuite
from rich.console import Console

from trainyard.errors import TrainyardError
from trainyard.results import DatasetVersion, ModelVersion, Run

DIGEST = "sha256:" + "ab" * 32
ROW = {"carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH", "scheduled_at": "2013-01-01T10:15:00Z"}


@pytest.fixture
def suite() -> FakeSuite:
    return FakeSuite()


@pytest.fixture
def asked() -> demo.Asked:
    examples = [({**ROW, "late": score > 0.5}, {"label": score > 0.5, "score": score}) for score in (0.1, 0.9, 0.4)]
    return demo.Asked([2.0, 3.0, 4.0], examples)


@pytest.fixture
def facts(asked: demo.Asked) -> dict[str, Any]:
    steps = [{"name": name, "kind": name, "status": {"phase": "reused"}} for name in ("ingest", "train")]
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
        "254,224 to train on, 73,122 held out",
        "0.736 on held-out days",
        "0.669",
        "flight-delays@1 (skops, onnx)",
        "p50 3.0 ms",
        "http://127.0.0.1:8080/docs",
        "make down",
        "nothing: the dataset and the model are reused",
    ],
)
def test_the_table_has_it(facts: dict[str, Any], asked: demo.Asked, words: str) -> None:
    assert words in shown(facts, asked)


def test_what_is_new_is_not_called_reused(facts: dict[str, Any], asked: demo.Asked) -> None:
    assert "new in this run" not in shown({**facts, "reused": ["ingest"]}, asked)


def test_the_flights_shown_are_the_likeliest_and_the_least_likely(facts: dict[str, Any], asked: demo.Asked) -> None:
    assert shown(facts, asked).index("0.900") < shown(facts, asked).index("0.100")


def test_the_facts_are_json(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts))["latency_ms"] == {"p50": 3.0, "p95": 3.9}


def test_a_wrong_period_ends_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--data", "1999"]) == 1
    assert "1999" in capsys.readouterr().err


HELD_OUT = [{**ROW, "flight": number, "late": False} for number in range(150)]
OUTPUTS = {"ingest": {"version": 1}, "train": {"version": 1}}


@pytest.fixture
def served(suite: FakeSuite, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSuite]:
    """A suite behind a socket where the run succeeds."""
    steps = [things.step(name, "succeeded", outputs=outputs) for name, outputs in OUTPUTS.items()]
    predicted = {"predictions": [{"label": False, "score": 0.2}], "model": "flight-delays", "version": 1}
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST}))
    suite.on("PUT", "/v1/pipelines/flight-delays", Answer(201, {"name": "flight-delays"}))
    suite.on("POST", "/v1/pipelines/flight-delays/runs", Answer(202, things.run("running")))
    suite.on("GET", "/v1/runs/r1", Answer(200, things.run("succeeded", *steps)))
    suite.on("GET", "/v1/datasets/flights/versions/1", Answer(200, things.version()))
    suite.on("GET", "/v1/datasets/flights/versions/1/rows", Answer(200, things.page(*HELD_OUT)))
    suite.on("GET", "/v1/models/flight-delays/versions/1", Answer(200, things.model_version()))
    suite.on("GET", "/v1/deployments/flight-delays", Answer(200, things.deployment()))
    suite.on("POST", "/v1/deployments/flight-delays/predict", Answer(200, predicted))
    with suite.serve() as url:
        monkeypatch.setenv("TRAINYARD_URL", url)
        monkeypatch.setenv("TRAINYARD_API_KEY", "ty_key")
        yield suite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv.gz"
    path.write_bytes(b"flights")
    return path


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_the_whole_way_from_a_file_to_a_hundred_predictions(served: FakeSuite, file: Path) -> None:
    facts, asked = demo.demonstrate(file, quiet())
    assert (facts["dataset"], facts["model"], facts["predictions"]) == ("flights@1", "flight-delays@1", 100)
    assert served.of("POST", "/v1/pipelines/flight-delays/runs")[0].json == {"parameters": {"upload": things.DIGEST}}
    asked_for = [request.json["rows"] for request in served.of("POST", "/v1/deployments/flight-delays/predict")]
    assert asked_for == [[{"carrier": "UA"}]] * 100  # the model's columns and no other: not the answer
    assert served.of("GET", "/v1/datasets/flights/versions/1/rows")[0].query == {"split": "held_out"}
    assert len(asked.milliseconds) == 100


def test_a_deployment_that_is_still_at_the_old_version_is_waited_for(served: FakeSuite, file: Path) -> None:
    before, after = things.deployment(serves=7), things.deployment()
    served.on("GET", "/v1/deployments/flight-delays", Answer(200, before), Answer(200, after))
    facts, _ = demo.demonstrate(file, quiet())
    assert facts["revision"] == "r1"


def test_another_version_that_answers_is_an_error(served: FakeSuite, file: Path) -> None:
    predicted = {"predictions": [{"label": False, "score": 0.2}], "model": "flight-delays", "version": 9}
    served.on("POST", "/v1/deployments/flight-delays/predict", Answer(200, predicted))
    with pytest.raises(TrainyardError, match="Version 9 answered, not 1"):
        demo.demonstrate(file, quiet())


def test_a_leak_fails_the_example_at_the_gate(served: FakeSuite, file: Path) -> None:
    gate = things.step("gate", "failed", message="steps.train.outputs.metrics.roc_auc < 0.85 is false")
    served.on("GET", "/v1/runs/r1", Answer(200, things.run("failed", gate)))
    with pytest.raises(TrainyardError, match=r"Step gate failed: .* < 0\.85 is false"):
        demo.demonstrate(file, quiet())


def test_the_pipeline_learns_of_nothing_that_is_the_answer() -> None:
    steps = yaml.safe_load((Path(demo.HERE) / "pipeline.yaml").read_text())["steps"]
    features = set(steps["train"]["with"]["features"])
    columns = {column["name"] for column in steps["ingest"]["with"]["settings"]["columns"]}
    assert features < columns
    assert features & {"late", "year", "day", "flight"} == set()
