"""A run's progress, on a terminal and elsewhere."""

import io
from datetime import UTC, datetime

import pytest
import things
import typer
from fake_suite import Answer, FakeSuite, Lost
from rich.console import Console

from trainyard.cli.watching import detachable, failure_of, result_of, table_of, watch_run
from trainyard.client import Client
from trainyard.errors import Unreachable
from trainyard.resources.pipelines import Runs
from trainyard.results import Run, Step
from trainyard.wire import Wire

INGESTED = {"reference": "flights@1", "rows": 327_346, "rejected": 9_430}
DONE = {"started_at": "2026-11-24T10:00:00Z", "finished_at": "2026-11-24T10:00:02.500000Z"}


def plain() -> Console:
    return Console(file=io.StringIO(), width=200)


def terminal() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=True)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def looks(suite: FakeSuite) -> None:
    ingest = things.step("ingest", "succeeded", outputs=INGESTED, **DONE)
    suite.on(
        "GET",
        "/v1/runs/r1",
        Answer(200, things.run("running", things.step("ingest", "running"), things.step("train", "waiting"))),
        Answer(200, things.run("running", ingest, things.step("train", "running", started_at=things.MADE))),
        Answer(200, things.run("running", ingest, things.step("train", "running", attempt=2))),
        Answer(200, things.run("succeeded", ingest, things.step("train", "succeeded", **DONE))),
    )


def test_elsewhere_each_change_is_one_line(suite: FakeSuite, client: Client) -> None:
    looks(suite)
    console = plain()
    run = watch_run(client, "r1", console=console, pause=lambda seconds: None)
    assert run.phase == "succeeded"
    assert written(console).splitlines() == [
        "ingest running",
        "ingest succeeded 2.5 s flights@1 · 327,346 rows, 9,430 rejected",
        "train running",
        "train running attempt 2",
        "train succeeded 2.5 s",
        "run r1 succeeded",
    ]


def test_a_terminal_shows_a_table_that_moves(suite: FakeSuite, client: Client) -> None:
    looks(suite)
    console = terminal()
    watch_run(client, "r1", console=console, pause=lambda seconds: None)
    shown = written(console)
    assert "flights@1 · 327,346 rows, 9,430 rejected" in shown
    assert "\x1b[" in shown


def test_a_suite_that_is_away_for_a_while_is_looked_for(suite: FakeSuite, client: Client) -> None:
    ended = Answer(200, things.run("succeeded"))
    suite.on("GET", "/v1/runs/r1", Lost, Lost, Lost, ended)
    assert watch_run(client, "r1", console=plain(), pause=lambda seconds: None).phase == "succeeded"


def test_a_suite_that_stays_away_is_an_error(suite: FakeSuite) -> None:
    suite.on("GET", "/v1/runs/r1", Lost)
    with Client("http://suite", "ty_key", transport=suite.transport(), environment={}) as client:
        client.runs = Runs(Wire(suite.http(), pause=lambda seconds: None))
        with pytest.raises(Unreachable):
            watch_run(client, "r1", console=plain(), pause=lambda seconds: None)


def test_ctrl_c_leaves_the_run_and_says_how_to_come_back(
    suite: FakeSuite, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    looks(suite)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        watch_run(client, "r1", console=plain(), pause=interrupted)
    assert caught.value.exit_code == 130
    said = capsys.readouterr().err
    assert "trainyard run watch r1" in said
    assert "trainyard run cancel r1" in said


def test_without_ctrl_c_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with detachable("watch", "stop"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (INGESTED, "flights@1 · 327,346 rows, 9,430 rejected"),
        ({"reference": "m@2", "metrics": {"roc_auc": 0.7361}}, "m@2 · ROC AUC 0.736"),
        ({"reference": "m@2", "metrics": {}}, "m@2"),
        ({"alias": "champion", "revision": 1}, "@champion"),
        ({"deployment": "flight-delays", "url": "/v1"}, "flight-delays"),
        ({"passed": True}, "passed"),
        ({}, ""),
    ],
)
def test_a_step_says_what_came_of_it(outputs: dict[str, object], words: str) -> None:
    step = Step.of(things.step("a", "succeeded", outputs=outputs))
    assert result_of(step).plain == words


def test_a_step_that_waits_for_another_try_says_why() -> None:
    step = Step.of(things.step("a", "waiting", attempt=2, message="the database is away"))
    assert result_of(step).plain == "attempt 2 · the database is away"


def test_a_running_steps_time_goes_on() -> None:
    run = Run.of(things.run("running", things.step("train", "running", started_at="2026-11-24T10:00:00Z")))
    console = plain()
    console.print(table_of(run, datetime(2026, 11, 24, 10, 0, 7, tzinfo=UTC)))
    assert "7.0 s" in written(console)


def test_a_cancelled_run_failed_in_no_step() -> None:
    assert failure_of(Run.of(things.run("cancelled"))) == "The run cancelled."
