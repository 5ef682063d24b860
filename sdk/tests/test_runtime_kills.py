"""A training that is killed ends with the weights of one that is not (G20), to the last bit."""

import asyncio
import json
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `torch_here`

import torch_here

from kit.testing import eventually

torch_here.need()

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def killed(folder: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "kill_training.py"), str(folder), *arguments]
    done = subprocess.run(command, env=torch_here.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("world", [1, 2])
def test_killed_at_ten_steps_it_ends_with_the_same_weights_to_the_last_bit(tmp_path: Path, world: int) -> None:
    found = killed(tmp_path, "--world", str(world), "--kills", "10")
    assert set(found["broken"]) == {found["unbroken"]}
    assert len(found["broken"]) == 10
    assert len(found["killed_at"][-1]) == 2
    assert found["losses_equal"]
    assert found["repeated"] <= 4  # steps between two checkpoints


def test_without_the_random_states_it_would_not(tmp_path: Path) -> None:
    """That the test above can fail."""
    found = killed(tmp_path, "--kills", "1", "--disturb")
    assert found["broken"] != [found["unbroken"]]


def test_told_to_stop_both_processes_of_torchrun_save_where_they_are_and_go_on_from_there(tmp_path: Path) -> None:
    unbroken = killed(tmp_path / "forks", "--world", "2", "--kills", "0")["unbroken"]
    folder = tmp_path / "torchrun"
    folder.mkdir()
    command = [*TORCHRUN, str(HERE / "kill_training.py"), str(folder), "--pause-at"]
    with subprocess.Popen([*command, "10"], env=torch_here.environment(), stderr=subprocess.PIPE) as agent:
        asyncio.run(eventually((folder / "reached").exists, timedelta(seconds=100)))
        agent.send_signal(signal.SIGTERM)
        agent.communicate()
    saved = sorted(path.name for path in (folder / "trainyard-run" / "checkpoints").iterdir())
    assert 10 <= int(saved[-1]) <= 22  # of 24 steps: when they agreed the next time
    done = subprocess.run([*command, "0"], env=torch_here.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "weights").read_text() == unbroken


def test_four_processes_then_two_then_three_see_each_row_once_and_learn_as_much(tmp_path: Path) -> None:
    """G21: each is killed in the middle of an epoch, for five seeds."""
    command = [sys.executable, str(HERE / "elastic_training.py"), str(tmp_path)]
    done = subprocess.run(command, env=torch_here.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert [it["seen"] for it in found] == [[{"1": 150}] * 4] * 5
    for it in found:
        assert it["elastic"] == pytest.approx(it["alone"], rel=0.02)
