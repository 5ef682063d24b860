"""A framework that nobody knows survives a kill too."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent.parent
DYING = """
import os, runpy, sys
from trainyard.runtime.runs import Run
log = Run.log
def dying(self, metrics, step=0):
    log(self, metrics, step)
    if step == int(os.environ["DIE_AT"]):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
Run.log = dying
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def trained(folder: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    started = [sys.executable, "-c", DYING] if environment else [sys.executable]
    return subprocess.run(
        [*started, str(HERE / "train.py")],
        cwd=folder,
        env={"PYTHONPATH": str(HERE.parents[1] / "sdk" / "src"), **(environment or {})},
        capture_output=True,
        text=True,
    )


def weights(folder: Path) -> str:
    return (folder / "trainyard-run" / "outputs" / "model" / "weights.csv").read_text()


def test_it_learns(tmp_path: Path) -> None:
    done = trained(tmp_path)
    assert done.stdout == "right about 92.8% of 2000 points\n"
    document = json.loads((tmp_path / "trainyard-run" / "outputs" / "model" / "model.json").read_text())
    assert document["formats"] == [{"format": "files", "path": "weights.csv"}]
    assert document["metrics"]["accuracy"] > 0.9


def test_stopped_in_the_middle_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    trained(tmp_path / "unbroken")
    broken = tmp_path / "broken"
    stopped = trained(broken, {"DIE_AT": "333", "SIGNAL": str(int(signal.SIGTERM))})
    assert stopped.returncode == 143
    assert [path.name for path in (broken / "trainyard-run" / "checkpoints").iterdir()] == ["000000000333"]
    killed = trained(broken, {"DIE_AT": "400", "SIGNAL": str(int(signal.SIGKILL))})
    assert killed.returncode == -signal.SIGKILL
    assert trained(broken).returncode == 0
    assert weights(broken) == weights(tmp_path / "unbroken")
    steps = [
        json.loads(line)["step"]
        for line in (broken / "trainyard-run" / "outputs" / "metrics.jsonl").read_text().splitlines()
        if '"metrics"' in line
    ]
    assert steps == [*range(1, 401), *range(334, 501)]
