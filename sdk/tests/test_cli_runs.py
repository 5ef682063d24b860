"""Pipelines and runs on the command line: put, run, watch, cancel, resume."""

import json
from collections.abc import Callable

import pytest
import things
from fake_suite import Answer, FakeSuite
from typer.testing import Result

Call = Callable[..., Result]


def test_a_pipeline_is_put_and_run_with_parameters(suite: FakeSuite, call: Call) -> None:
    suite.on("PUT", "/v1/pipelines/p", Answer(201, {"name": "p", "steps": {"ingest": {}}}))
    suite.on("POST", "/v1/pipelines/p/runs", Answer(202, things.run("running", things.step("ingest", "running"))))
    assert call("pipeline", "put", "p", "-", stdin="steps: {}").exit_code == 0
    done = call("pipeline", "run", "p", "-p", "upload=sha256:ab", "-p", "minimum=0.7")
    assert "trainyard run watch r1" in done.stderr
    assert suite.asked[-1].json == {"parameters": {"upload": "sha256:ab", "minimum": 0.7}}
    assert call("pipeline", "run", "p", "-p", "upload").exit_code == 2


@pytest.mark.parametrize("line", ["pipeline run p --watch", "run watch r1", "run resume r1 --watch"])
def test_a_watched_run_that_fails_names_the_step_and_the_way_on(suite: FakeSuite, call: Call, line: str) -> None:
    gate = things.step("gate", "failed", message="roc_auc is 0.61")
    suite.on("POST", "/v1/pipelines/p/runs", Answer(202, things.run("running")))
    suite.on("POST", "/v1/runs/r1/resume", Answer(202, things.run("running")))
    suite.on("GET", "/v1/runs/r1", Answer(200, things.run("failed", things.step("ingest", "reused"), gate)))
    done = call(*line.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Step gate failed: roc_auc is 0.61" in done.stderr
    assert "trainyard run resume r1" in done.stderr


def test_a_watched_run_ends_in_json_for_programs(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/runs/r1", Answer(200, things.run("succeeded")))
    assert json.loads(call("run", "watch", "r1", "-o", "json").stdout)["status"]["phase"] == "succeeded"


@pytest.mark.parametrize("verb", ["cancel", "resume"])
def test_a_run_is_cancelled_and_resumed(suite: FakeSuite, call: Call, verb: str) -> None:
    suite.on("POST", f"/v1/runs/r1/{verb}", Answer(202, things.run("running", things.step("ingest", "running"))))
    assert "ingest" in call("run", verb, "r1").stdout
