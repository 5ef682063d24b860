"""Deployments on the command line: put, limited, asked."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import things
from fake_suite import Answer, FakeSuite, problem
from typer.testing import Result

Call = Callable[..., Result]


@pytest.mark.parametrize(
    ("models", "body"),
    [
        (["m@champion"], {"model": "m@champion"}),
        (["m@1=90", "m@2=10"], {"models": [{"model": "m@1", "weight": 90}, {"model": "m@2", "weight": 10}]}),
    ],
)
def test_a_deployment_is_put_and_waited_for(suite: FakeSuite, call: Call, models: list[str], body: Any) -> None:
    suite.on("PUT", "/v1/deployments/flight-delays", Answer(201, things.deployment("pending")))
    suite.on("GET", "/v1/deployments/flight-delays", problem(404, "not yet"), Answer(200, things.deployment()))
    done = call("deployment", "put", "flight-delays", *models)
    assert (done.exit_code, "ready" in done.stdout) == (0, True), done.output
    assert suite.of("PUT", "/v1/deployments/flight-delays")[0].json == body


LIMITED = {"limits": {"concurrency": 2, "waiting": 0, "memory_bytes": 1 << 20}, "pinned": True}


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ([], {}),
        (["--concurrency", "2", "--waiting", "0", "--memory-bytes", str(1 << 20), "--pinned"], LIMITED),
        (["--concurrency", "2"], {"limits": {"concurrency": 2}}),
        (["--no-limits", "--no-pinned"], {"limits": {}, "pinned": False}),
    ],
)
def test_limits_of_a_deployment_are_named_or_stay(
    suite: FakeSuite, call: Call, options: list[str], body: dict[str, Any]
) -> None:
    suite.on("PUT", "/v1/deployments/flight-delays", Answer(200, things.deployment() | LIMITED))
    suite.on("GET", "/v1/deployments/flight-delays", problem(404, "not yet"))
    done = call("deployment", "put", "flight-delays", "m", "--no-wait", *options)
    assert done.exit_code == 0, done.output
    assert suite.of("PUT", "/v1/deployments/flight-delays")[0].json == {"model": "m", **body}
    assert "concurrency 2, waiting 0, memory_bytes 1,048,576" in done.stdout


def test_no_limits_and_a_limit_are_at_odds(call: Call) -> None:
    assert call("deployment", "put", "d", "m", "--no-limits", "--waiting", "1").exit_code == 2


def test_weights_are_needed_with_several_models(call: Call) -> None:
    assert call("deployment", "put", "d", "m@1", "m@2=10").exit_code == 2


def test_a_deployment_that_fails_is_a_failure(suite: FakeSuite, call: Call) -> None:
    suite.on("PUT", "/v1/deployments/flight-delays", Answer(201, things.deployment("pending")))
    suite.on("GET", "/v1/deployments/flight-delays", Answer(200, things.deployment("failed")))
    assert call("deployment", "put", "flight-delays", "m@1").exit_code == 1


PREDICTED = {"predictions": [{"label": True, "score": 0.8125}], "model": "flight-delays", "version": 1}


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ('{"carrier": "UA"}', [{"carrier": "UA"}]),
        ('[{"carrier": "UA"}]', [{"carrier": "UA"}]),
        ('{"rows": [{"carrier": "UA"}]}', [{"carrier": "UA"}]),
        ('{"columns": ["carrier"], "rows": [["UA"]]}', [["UA"]]),
    ],
)
def test_predict_takes_a_row_rows_or_a_whole_body(suite: FakeSuite, call: Call, data: str, rows: Any) -> None:
    suite.on("POST", "/v1/deployments/d/predict", Answer(200, PREDICTED))
    for argument, stdin in ((data, None), ("@-", data)):
        done = call("predict", "d", "-d", argument, stdin=stdin)
        assert ("0.8125" in done.stdout, "flight-delays@1" in done.stderr) == (True, True), done.output
        assert suite.asked[-1].json["rows"] == rows
    assert json.loads(call("predict", "d", "-d", data, "-o", "json").stdout) == PREDICTED
