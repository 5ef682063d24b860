"""A warden in this process: what it hears, what it ends, and what it says came of it."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bundles_at_work import NEEDS_SANDBOX

from trainer.domain import programs
from trainer.domain.attempts import AttemptResult, Outcome
from trainer.domain.bundles import BundleSpec
from trainer.domain.programs import Told
from trainer.domain.reports import FULL
from trainer.runner.bundles import ask
from trainer.runtime import collecting, hearing, trees, warden
from trainer.runtime.hearing import Hearing
from trainer.runtime.warden import Warden

pytestmark = NEEDS_SANDBOX
PREFACE = """
import json, os, signal, socket, sys, time
run = json.load(open(os.environ["TRAINYARD_RUN_FILE"]))
def say(*messages):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(run["socket"])
        for each in messages: s.sendall(json.dumps(each).encode() + b"\\n")
"""


POLICY = {"pattern": "NCCL*out", "action": "retry"}


class Heard:
    """Stands where a reporter stands."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.points: list[tuple[str, float, int]] = []
        self.fraction = 0.0
        self.backlog = 0
        self.is_heard = True
        self.closed = False

    def log(self, level: str, message: str) -> None:
        self.lines.append(message)

    def metric(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def progress(self, stage: str, fraction: float) -> None:
        self.fraction = fraction

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def heard() -> Iterator[Heard]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)}
    yield Heard()
    for number, handler in before.items():
        signal.signal(number, handler)


def told_of(folder: Path, text: str = "", **given: Any) -> Told:
    (folder / "work" / programs.BUNDLE).mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "work" / programs.BUNDLE / "train.py").write_text(PREFACE + textwrap.dedent(text))
    spec = {"bundle": "sha256:" + "b" * 64, "entrypoint": "train.py", **given.pop("spec", {})}
    values: dict[str, Any] = {
        "job": "j",
        "attempt": 1,
        "url": "http://127.0.0.1:1/a",
        "token": "t",
        "spec": BundleSpec.from_json(spec).to_json(),
        "python": ask(sys.executable),
        "sandbox": True,
        "checkpoints": str(folder / "checkpoints"),
        "memory_bytes": 1 << 30,
        "disk_bytes": 1 << 30,
    }
    return Told(**values | given)


def run(folder: Path, heard: Any, text: str, **given: Any) -> AttemptResult:
    return Warden(folder / "work", told_of(folder, text, **given), lambda: heard).run()


def test_it_passes_on_what_the_program_prints_and_says(tmp_path: Path, heard: Heard) -> None:
    text = """
    say({"type": "metrics", "step": 1, "values": {"loss": 2}}, {"type": "progress", "done": 1, "total": 2})
    say({"type": "checkpoint", "step": 1}, {"type": "checkpoint", "step": 2})
    print("secret1234", flush=True)
    sys.stdout.write("no end")
    """
    result = run(tmp_path, heard, text, secrets={"key": "secret1234"})
    assert (result.outcome, result.metrics, result.model) == (Outcome.SUCCEEDED, {"loss": 2.0}, None)
    assert {*heard.lines} == {"The checkpoint of step 1 is written.", "•••", "no end"}  # two ways have no common order
    assert (heard.points, heard.fraction) == ([("loss", 2.0, 1)], 0.5)


@pytest.mark.parametrize(
    ("text", "given", "reason"),
    [
        ("x = bytearray(1 << 30); time.sleep(60)", {"memory_bytes": 64 << 20}, "out-of-memory"),
        ("open('/tmp/x', 'wb').write(bytes(8 << 20)); time.sleep(60)", {"disk_bytes": 1 << 20}, "disk-full"),
        ("say({'type': 'metrics', 'values': {'a': None}}); time.sleep(60)", {}, "non-finite"),
        ("print('NCCL timed out'); time.sleep(60)", {"spec": {"log_policies": [POLICY]}}, "log-retry"),
        ("raise ValueError('x')", {}, "user-error"),
        ("os.kill(os.getpid(), 11)", {"sandbox": False}, "crashed"),
    ],
)
def test_every_end_is_named(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch, text: str, given: Mapping[str, Any], reason: str
) -> None:
    monkeypatch.setattr(warden, "GRACE", 0.2)
    result = run(tmp_path, heard, text, **given)
    assert (result.outcome, result.reason) == (Outcome.FAILED, reason), result


def test_too_many_threads_end_it(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_TASKS", 20)
    text = "import threading\nfor _ in range(50): threading.Thread(target=time.sleep, args=(60,)).start()"
    assert run(tmp_path, heard, text).reason == "user-error"


def test_told_to_stop_it_tells_the_program(tmp_path: Path, heard: Heard) -> None:
    text = """
    signal.signal(signal.SIGTERM, lambda *_: (print("stopping"), sys.exit(0)))
    print("begun", flush=True)
    time.sleep(60)
    """

    class Stopping(Heard):
        def log(self, level: str, message: str) -> None:
            super().log(level, message)
            if message == "begun":
                os.kill(os.getpid(), signal.SIGTERM)

    stopping = Stopping()
    assert run(tmp_path, stopping, text).outcome is Outcome.STOPPED
    assert stopping.lines == ["begun", "stopping"]


def test_a_full_log_says_so_once_and_the_program_goes_on(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "MAX_LOG_BYTES", warden.CHUNK + 20)
    assert run(tmp_path, heard, "for n in range(100): print('line', n)").outcome is Outcome.SUCCEEDED
    assert heard.lines == ["line 0", "line 1", FULL]


def test_a_program_waits_for_a_trainer_that_hears_but_not_for_ever(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "PATIENCE", 0.1)
    heard.backlog = warden.MANY + 1
    assert run(tmp_path, heard, "for n in range(20_000): print('line', n)").outcome is Outcome.SUCCEEDED
    assert heard.lines[-1] == "line 19999"


def test_a_sandbox_that_does_not_start_is_said(tmp_path: Path, heard: Heard) -> None:
    told = told_of(tmp_path, checkpoints=str(tmp_path / "nowhere"))
    result = Warden(tmp_path / "work", told, lambda: heard).run()  # type: ignore[arg-type, return-value]
    assert (result.reason, "bwrap: " in result.message) == ("sandbox-missing", True)


SAVE = """
os.makedirs(run["outputs"] + "/model")
os.chdir(run["outputs"] + "/model")
json.dump({"formats": [{"format": "onnx", "path": "m.onnx"}], "metrics": {"a": 1}}, open("model.json", "w"))
"""


def test_a_model_is_taken_and_none_is_a_failure(tmp_path: Path, heard: Heard) -> None:
    assert run(tmp_path, heard, "pass", registers=True).reason == "user-error"
    assert "m.onnx is not there" in run(tmp_path, heard, SAVE, registers=True).message
    (tmp_path / "other").mkdir()
    result = run(tmp_path / "other", heard, SAVE + "open('m.onnx', 'w').write('x')", registers=True)
    assert result.model is not None
    assert (result.metrics, [file.path for file in result.model.files]) == ({"a": 1.0}, ["m.onnx"])
    assert (tmp_path / "other/work/collected/m.onnx").read_text() == "x"


DESCRIBED: list[tuple[Any, str]] = [
    ([], "no object"),
    ({"formats": []}, "1 to 8 files"),
    ({"formats": ["x"]}, "plain file name"),
    ({"formats": [{"path": ".x", "format": "onnx"}]}, "plain file name"),
    ({"formats": [{"path": "x"}]}, "is not said"),
    ({"formats": [{"path": "model.json", "format": "onnx"}]}, "is not said"),
    ({"formats": [{"path": "link", "format": "onnx"}]}, "is a link"),
    ({"formats": [{"path": "pipe", "format": "onnx"}]}, "no plain file"),
    ({"formats": [{"path": "two", "format": "onnx"}]}, "no plain file"),
    ({"formats": [{"path": "m", "format": "onnx"}], "parameters": 1}, "no object"),
    ({"formats": [{"path": "m", "format": "onnx"}], "input_example": [1]}, "list of objects"),
    ({"formats": [{"path": "m", "format": "onnx"}], "metrics": {"a": "b"}}, "no finite number"),
]


@pytest.mark.parametrize(("said", "why"), DESCRIBED)
def test_what_is_no_model_is_refused(tmp_path: Path, said: Any, why: str) -> None:
    folder = tmp_path / "work/run/outputs/model"
    folder.mkdir(parents=True)
    (folder / "m").write_text("x")
    (folder / "link").symlink_to("m")
    os.mkfifo(folder / "pipe")
    if "two" in str(said):
        (folder / "two").hardlink_to(folder / "m")
    (folder / "model.json").write_text(json.dumps(said))
    with pytest.raises(collecting.Refused, match=why):
        collecting.collect(tmp_path / "work", told_of(tmp_path))


@pytest.mark.parametrize("text", ["nonsense", "[" * 100_000, '{"metrics": NaN}', " " * (2 << 20)])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "work/run/outputs/model"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(text)
    with pytest.raises(collecting.Refused, match=r"model\.json"):
        collecting.collect(tmp_path / "work", told_of(tmp_path))


def test_no_model_is_none_and_a_link_is_refused(tmp_path: Path) -> None:
    outputs = tmp_path / "work/run/outputs"
    outputs.mkdir(parents=True)
    assert collecting.collect(tmp_path / "work", told_of(tmp_path)) is None
    (outputs / "model").mkdir()
    assert collecting.collect(tmp_path / "work", told_of(tmp_path)) is None
    (outputs / "model").rmdir()
    (outputs / "model").symlink_to("/usr")
    with pytest.raises(collecting.Refused, match="no folder"):
        collecting.collect(tmp_path / "work", told_of(tmp_path))


def hear(tmp_path: Path, heard: Heard, *sent: bytes) -> tuple[Hearing, list[tuple[str, str]]]:
    failed: list[tuple[str, str]] = []
    found = Hearing(str(tmp_path / "s"), selectors.DefaultSelector(), lambda kind, said: failed.append((kind, said)))
    found.reporter = heard  # type: ignore[assignment]
    for each in sent:
        with socket.socket(socket.AF_UNIX) as speaker:
            speaker.connect(found.path)
            speaker.sendall(each)
    found.close()
    return found, failed


def test_what_is_no_message_is_dropped_and_said_once(tmp_path: Path, heard: Heard) -> None:
    found, failed = hear(tmp_path, heard, b"no\n" * 50, b"x" * 70_000, b"x" * 70_000 + b"\n", b"no\n" * 200)
    assert (found.last, failed, len(heard.lines)) == ({}, [], 1)


def test_a_metric_that_is_no_number_fails(tmp_path: Path, heard: Heard) -> None:
    [(kind, said)] = hear(tmp_path, heard, b'{"type": "metrics", "step": 2, "values": {"loss": NaN}}\n')[1]
    assert (kind, "step 2" in said) == ("non-finite", True)


def test_more_points_than_are_kept_are_said_once(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "MAX_POINTS", 2)
    monkeypatch.setattr(hearing, "MAX_LAST", 1)
    line = b'{"type": "metrics", "step": 1, "values": {"a": 1, "b": 2, "c": 3, "d": 4}}\n'
    found, _ = hear(tmp_path, heard, line)
    assert (len(heard.points), len(heard.lines), found.last) == (2, 1, {"a": 1.0})


def test_a_tree_is_seen_and_ended() -> None:
    code = "import subprocess, sys; subprocess.run(['sleep', '64.5'])"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        while len(list(trees.descendants(process.pid))) < 2:
            pass
        seen = trees.look(process.pid, 1 << 40, 100)
        assert (seen.tasks, seen.resident > 1 << 20) == (2, True)
        shared = trees.look(process.pid, 0, 100)
        assert 0 < shared.resident < seen.resident
        assert trees.look(process.pid, 1 << 40, 0).tasks == 1
    finally:
        process.kill()
        process.wait()


def test_the_disk_is_looked_at_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(bytes(1 << 20))
    (tmp_path / "a/link").symlink_to("/usr")
    assert 1 << 20 <= trees.used([str(tmp_path)], 1 << 30) < 2 << 20
    assert trees.used([str(tmp_path / "nowhere")], 1 << 30) == 0
