"""Sweeps, from the client and from the command line."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import things
import typer
from fake_suite import Answer, FakeSuite, Lost
from rich.console import Console
from typer.testing import Result

from trainyard.cli.sweep_watching import table_of, values_of, watch_sweep
from trainyard.client import Client
from trainyard.sweep_results import Sweep

Call = Callable[..., Result]


def trial(number: int, phase: str = "succeeded", value: float | None = 0.7, **given: Any) -> dict[str, Any]:
    said = {"parameters": {"depth": number + 1, "rate": 0.0125, "kind": "gini"}, "message": "", "step": 9}
    return {"number": number, "job": f"j{number}", "phase": phase, "value": value} | said | given


def sweep(phase: str = "succeeded", *trials: dict[str, Any], message: str = "") -> dict[str, Any]:
    done = [each for each in trials if each["phase"] == "succeeded"]
    best = max(done, key=lambda each: each["value"]) if done else None
    return {
        "id": "s1",
        "job": {"dataset": "flights@1"},
        "space": {"depth": {}, "rate": {}, "kind": {}},
        "objective": {"metric": "roc_auc", "direction": "maximize"},
        "budget": {"trials": 4},
        "status": things.status(phase, message),
        "counts": {"running": 0, "succeeded": len(done), "pruned": 0, "failed": 0, "cancelled": 0},
        "best": best and {name: best[name] for name in ("number", "job", "value", "parameters")},
        "importance": {"depth": 0.9, "rate": 0.1} if best else {},
        "core_hours": 0.25,
        "model": {"name": "delays", "version": 3, "digest": things.DIGEST} if phase == "succeeded" else None,
        "trials": list(trials),
        "created_at": things.MADE,
        "finished_at": None,
    }


DONE = sweep(
    "succeeded", trial(0), trial(1, value=0.9), trial(2, "pruned", 0.1), trial(3, "failed", None, message="No.")
)


def test_a_sweep_from_its_start_to_its_end(suite: FakeSuite, client: Client) -> None:
    suite.on("POST", "/v1/sweeps", Answer(202, sweep("running")))
    suite.on("GET", "/v1/sweeps", Answer(200, things.page(sweep("running"))))
    suite.on("GET", "/v1/sweeps/s1", Answer(200, sweep("running", trial(0))), Answer(200, DONE))
    suite.on("POST", "/v1/sweeps/s1/cancel", Answer(202, sweep("cancelled")))
    suite.on("DELETE", "/v1/sweeps/s1", Answer(204))
    assert client.sweeps.create({"job": {}}).phase == "running"
    assert [each.id for each in client.sweeps.list()] == ["s1"]
    assert [each.value for each in client.sweeps.get("s1").trials] == [0.7]
    found = client.sweeps.wait("s1")
    assert found.best is not None
    assert (found.best.number, found.best.value, found.best.job) == (1, 0.9, "j1")
    assert found.model is not None
    assert (found.model.version, found.importance["depth"]) == (3, 0.9)
    assert client.sweeps.cancel("s1").phase == "cancelled"
    client.sweeps.delete("s1")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1..10", {"type": "int", "low": 1, "high": 10}),
        ("-1..10/2", {"type": "int", "low": -1, "high": 10, "step": 2}),
        ("log:1..1000", {"type": "int", "low": 1, "high": 1000, "log": True}),
        ("log:1e-4..0.1", {"type": "float", "low": 1e-4, "high": 0.1, "log": True}),
        ("0..1/0.25", {"type": "float", "low": 0, "high": 1, "step": 0.25}),
        ("gini,entropy", {"type": "categorical", "choices": ["gini", "entropy"]}),
        ("1,true,null,2.5,x", {"type": "categorical", "choices": [1, True, None, 2.5, "x"]}),
    ],
)
def test_values_are_written_as_ranges_or_choices(text: str, values: dict[str, Any]) -> None:
    assert values_of(text) == values


def test_a_range_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="no range"):
        values_of("1.2.3..4")


def test_a_sweep_is_made_of_files_and_options(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    job, file = tmp_path / "job.yaml", tmp_path / "sweep.yaml"
    job.write_text("dataset: flights@1\ntarget: late\n")
    file.write_text("objective: {metric: f1}\nbudget: {trials: 5, core_hours: 1.0}\nspace: {a: {type: int}}\n")
    suite.on("POST", "/v1/sweeps", Answer(202, sweep("running")))
    options = ["--metric", "loss", "--minimize", "--method", "random", "--trials", "9", "--parallelism", "2", "--prune"]
    done = call("sweep", "run", "--file", str(file), "--job", str(job), "--vary", "b=1..3", "--model", "m", *options)
    assert done.exit_code == 0, done.output
    assert "trainyard sweep watch s1" in done.stderr
    assert suite.asked[0].json == {
        "job": {"dataset": "flights@1", "target": "late", "register": {"model": "m"}},
        "space": {"a": {"type": "int"}, "b": {"type": "int", "low": 1, "high": 3}},
        "objective": {"metric": "loss", "direction": "minimize"},
        "algorithm": {"method": "random"},
        "budget": {"trials": 9, "core_hours": 1.0},
        "parallelism": 2,
        "pruning": {},
    }


def test_the_bundle_of_a_sweep_is_sent_first(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print()\n")
    job = tmp_path / "job.yaml"
    job.write_text("bundle: code\nentrypoint: train.py\n")
    suite.on("POST", "/v1/sweeps", Answer(202, sweep("running")))
    suite.on("GET", "/v1/bundles/none", Answer(404))
    done = call("sweep", "run", "--job", str(job), "--vary", "lr=0.1..1.0", "--metric", "loss")
    assert done.exit_code != 0  # the suite takes no bundle here
    [sent] = [asked for asked in suite.asked if asked.method == "PUT"]
    suite.on("PUT", sent.path, Answer(200, {}))
    done = call("sweep", "run", "--job", str(job), "--vary", "lr=0.1..1.0", "--metric", "loss")
    assert done.exit_code == 0, done.output
    said = suite.of("POST", "/v1/sweeps")[0].json["job"]
    assert said == {"kind": "bundle", "bundle": sent.path.rpartition("/")[2], "entrypoint": "train.py"}
    job.write_text("bundle: nowhere\n")
    assert call("sweep", "run", "--job", str(job)).exit_code == 2


@pytest.mark.parametrize("vary", ["depth", "=1..2", "depth="])
def test_values_without_a_name_are_a_usage_error(call: Call, vary: str) -> None:
    assert call("sweep", "run", "--vary", vary).exit_code == 2


def test_a_sweep_is_shown_with_its_trials(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/sweeps/s1", Answer(200, DONE))
    shown = call("sweep", "show", "s1").stdout
    for said in ("✔ succeeded", "✂ pruned", "0.1000 @9", "No.", "depth 90%, rate 10%", "delays@3", "0.0125", "j1"):
        assert said in shown
    assert json.loads(call("sweep", "show", "s1", "-o", "json").stdout) == DONE
    suite.on("GET", "/v1/sweeps", Answer(200, things.page(DONE)))
    assert "0.9000" in call("sweep", "list").stdout


def test_an_empty_list_a_cancel_and_a_delete(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/sweeps", Answer(200, things.page()))
    suite.on("POST", "/v1/sweeps/s1/cancel", Answer(202, sweep("running")))
    suite.on("DELETE", "/v1/sweeps/s1", Answer(204))
    assert (call("sweep", "list").stdout, call("sweep", "cancel", "s1").exit_code) == ("", 0)
    assert call("sweep", "delete", "s1").exit_code == 0


@pytest.mark.parametrize(("phase", "code"), [("succeeded", 0), ("failed", 1)])
def test_a_watched_sweep_ends_as_it_ended(suite: FakeSuite, call: Call, phase: str, code: int) -> None:
    suite.on("POST", "/v1/sweeps", Answer(202, sweep("running")))
    suite.on("GET", "/v1/sweeps/s1", Answer(200, sweep(phase, trial(0), message="as it went")))
    done = call("sweep", "run", "--watch")
    assert (done.exit_code, "trial 0 succeeded 0.7000" in done.stderr) == (code, True), done.output
    assert call("sweep", "watch", "s1").exit_code == code


def watched(client: Client, console: Console) -> str:
    assert watch_sweep(client, "s1", console=console, pause=lambda seconds: None).phase == "succeeded"
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_elsewhere_each_end_of_a_trial_is_one_line(suite: FakeSuite, client: Client) -> None:
    first = sweep("running", trial(0), trial(1, "running", None))
    suite.on("GET", "/v1/sweeps/s1", Answer(200, first), Lost, Answer(200, first), Answer(200, DONE))
    lines = watched(client, Console(file=io.StringIO(), width=200)).splitlines()
    assert lines == [
        "trial 0 succeeded 0.7000 depth=1 rate=0.0125 kind=gini",
        "trial 1 succeeded 0.9000 depth=2 rate=0.0125 kind=gini",
        "trial 2 pruned 0.1000 @9 depth=3 rate=0.0125 kind=gini",
        "trial 3 failed No. depth=4 rate=0.0125 kind=gini",
        "sweep s1 succeeded",
    ]


def test_on_a_terminal_the_table_moves(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/sweeps/s1", Answer(200, sweep("running", trial(0, "running", None))), Answer(200, DONE))
    shown = watched(client, Console(file=io.StringIO(), width=100, force_terminal=True))
    assert "4 trials" in shown
    assert "pruned" in shown


def test_of_many_trials_the_best_and_the_newest_are_shown() -> None:
    many = sweep("running", trial(0, value=0.99), *(trial(number) for number in range(1, 50)))
    console = Console(file=io.StringIO(), width=120)
    console.print(table_of(Sweep.of(many), 5))
    assert isinstance(console.file, io.StringIO)
    rows = [line.split("│")[1].strip() for line in console.file.getvalue().splitlines() if "│" in line]
    assert rows[1:] == ["0", "46", "47", "48", "49"]
