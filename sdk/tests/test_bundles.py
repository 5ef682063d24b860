"""Folders of code as archives, jobs that run them, and how they are watched."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import things
from fake_suite import Answer, FakeSuite, problem
from rich.console import Console

from trainyard import bundles
from trainyard.bundles import NotABundle, Packed, pack
from trainyard.cli.job_watching import Seen, sparkline, time_left, watch_job
from trainyard.client import Client
from trainyard.results import Job, MetricPoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "lib").mkdir(parents=True)
    (folder / "train.py").write_text("print(1)")
    (folder / "lib" / "own.py").write_text("")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("")
    (folder / "data.csv").write_text("1")
    (folder / ".trainyardignore").write_text("# not code\n*.csv\n\n")
    return folder


def names(packed: Packed) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as tar:
        return tar.getnames()


def test_the_same_files_are_the_same_bytes(folder: Path) -> None:
    first = pack(folder)
    assert names(first) == ["lib/own.py", "train.py"]
    (folder / "train.py").touch()
    assert pack(folder) == first
    (folder / "train.py").chmod(0o755)
    assert pack(folder).digest != first.digest
    assert names(pack(folder / "train.py")) == ["train.py"]


def test_what_cannot_be_sent_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotABundle, match="no folder"):
        pack(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotABundle, match="no file"):
        pack(tmp_path / "empty")
    monkeypatch.setattr(bundles, "MAX_FILES", 1)
    with pytest.raises(NotABundle, match="has 2"):
        pack(folder)
    monkeypatch.setattr(bundles, "MAX_BYTES", -1)
    with pytest.raises(NotABundle, match="MiB"):
        pack(folder / "train.py")
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(NotABundle, match="link is a link"):
        pack(folder)


def test_a_folder_is_sent_once_and_run(suite: FakeSuite, client: Client, folder: Path) -> None:
    packed = pack(folder)
    path = f"/v1/bundles/{packed.digest}"
    suite.on("GET", path, problem(404, "none", code="bundle-not-found"), Answer(200, {}))
    suite.on("PUT", path, Answer(200, {}))
    suite.on("POST", "/v1/jobs", Answer(202, things.job("pending")))
    for _ in range(2):
        client.jobs.run(folder, parameters={"lr": 0.1}, register="digits")
    client.jobs.run("sha256:" + "0" * 64, "other.py")
    [sent] = suite.of("PUT", path)
    assert sent.body == packed.content
    asked = [each.json for each in suite.of("POST", "/v1/jobs")]
    run = {"kind": "bundle", "bundle": packed.digest, "entrypoint": "train.py"}
    assert asked[0] == asked[1] == {**run, "parameters": {"lr": 0.1}, "register": {"model": "digits"}}
    assert asked[2] == {"kind": "bundle", "bundle": "sha256:" + "0" * 64, "entrypoint": "other.py"}


def test_the_command_line_runs_a_folder(suite: FakeSuite, call: Any, folder: Path) -> None:
    path = f"/v1/bundles/{pack(folder).digest}"
    suite.on("GET", path, Answer(200, {}))
    suite.on("POST", "/v1/jobs", Answer(202, things.job("pending")))
    file = folder.parent / "job.yaml"
    file.write_text("kind: bundle\nbundle: code\nparameters: {lr: 0.1}\nresources: {cpu: 2}\n")
    options = ["--param", "epochs=3", "--nproc", "2", "--memory", "2Gi", "--seed", "7", "--deadline", "1h"]
    done = call("job", "run", "--file", str(file), *options)
    assert done.exit_code == 0, done.output
    assert call("job", "run", "--bundle", str(folder), "--entrypoint", "lib/own.py").exit_code == 0
    assert call("job", "run", "--bundle", str(folder / "nowhere")).exit_code == 2
    first, second = [each.json for each in suite.of("POST", "/v1/jobs")]
    assert first == {
        "kind": "bundle",
        "bundle": pack(folder).digest,
        "entrypoint": "train.py",
        "parameters": {"lr": 0.1, "epochs": 3},
        "resources": {"cpu": 2, "memory": "2Gi"},
        "nproc": 2,
        "seed": 7,
        "deadline": "1h",
    }
    assert second["entrypoint"] == "lib/own.py"


def test_values_become_bars() -> None:
    assert sparkline([]) == ""
    assert sparkline([1, 1]) == "▁▁"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert len(sparkline(list(range(1000)))) == 40


@pytest.mark.parametrize(
    ("fraction", "seconds", "said"),
    [(None, 5, ""), (0, 5, ""), (0.5, 0, ""), (0.5, 65, "1:05 left"), (0.1, 3600, "9:00:00 left")],
)
def test_how_long_it_goes_on(fraction: float | None, seconds: float, said: str) -> None:
    assert time_left(fraction, seconds) == said


def drawn(seen: Seen, now: float) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(seen.draw(now))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_job_is_drawn_with_what_is_known_of_it() -> None:
    seen = Seen(Job.of(things.job("running", "goes on")))
    assert "goes on" in drawn(seen, 0)
    seen.job = Job.of({**things.job("running"), "progress": {"stage": "training", "fraction": 0.0}})
    drawn(seen, 0)
    seen.job = Job.of({**things.job("running"), "progress": {"stage": "training", "fraction": 0.25}})
    for value in (3.0, 2.0, 1.0):
        seen.add(MetricPoint.of({"name": "loss", "value": value, "step": 1}))
    shown = drawn(seen, 10)
    assert "25%  0:30 left" in shown
    assert "loss" in shown
    assert "█▅▁ 1" in shown


LOG = 'id: 1\ndata: {"message": "fitting"}\n\nevent: end\ndata: {}\n\n'
POINTS = f"id: 1\ndata: {json.dumps({'name': 'loss', 'value': 0.5, 'step': 1})}\n\nevent: end\ndata: {{}}\n\n"


def test_on_a_terminal_the_log_and_the_metrics_are_shown_until_it_is_over(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/jobs/j1/logs", Answer(200, text=LOG))
    suite.on("GET", "/v1/jobs/j1/metrics", Answer(200, text=POINTS))
    suite.on("GET", "/v1/jobs/j1", Answer(200, things.job("running")), Answer(200, things.job()))
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    job = watch_job(client, Job.of(things.job("pending")), console=console, pause=lambda seconds: None)
    assert job.phase == "succeeded"
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "fitting" in shown
    assert "loss" in shown


def test_a_log_that_cannot_be_followed_ends_nothing(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/jobs/j1", Answer(200, things.job()))
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert watch_job(client, Job.of(things.job("pending")), console=console, pause=lambda s: None).phase == "succeeded"
