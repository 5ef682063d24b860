"""The examples, and with them `trainyard.runtime`, as bundles in a real sandbox."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from attempts_at_work import Attempt
from bundles_at_work import NEEDS_SANDBOX, bundle_grant
from runners_at_work import PATIENCE, Boss, Host, running

from kit.ids import uuid7
from kit.testing import eventually

pytestmark = NEEDS_SANDBOX
EXAMPLES = Path(__file__).parents[3] / "examples"
OWN = (EXAMPLES / "bring-your-own" / "train.py").read_text()
STOPPED = """
import os, runpy
from trainyard.runtime.runs import Run
log = Run.log
def stopped(self, metrics, step=0):
    log(self, metrics, step)
    if step == 333 and self.facts.attempt == 1:
        os.kill(os.getpid(), 15)
Run.log = stopped
runpy.run_path("own.py", run_name="__main__")
"""


async def ended(host: Host, boss: Boss, program: str, **given: Any) -> dict[str, Any]:
    before = len(boss.ends)
    boss.queue.append(bundle_grant(boss, program, **given))
    async with running(host):
        await eventually(lambda: len(boss.ends) > before, PATIENCE * 3)
    return {"code": boss.ends[before]["exit_code"], **(boss.ends[before]["result"] or boss.ends[before]["failure"])}


async def test_a_program_that_was_stopped_goes_on_in_the_next_attempt(host: Host, boss: Boss, attempt: Attempt) -> None:
    unbroken = await ended(host, boss, OWN, seed=5, register=True)
    assert unbroken["outcome"] == "succeeded", unbroken
    assert attempt.lines == ["right about 92.8% of 2000 points"]
    job = str(uuid7())
    known = {"files": {"own.py": OWN}, "job": job, "seed": 5, "register": True}
    assert (await ended(host, boss, STOPPED, number=1, **known))["outcome"] != "succeeded"
    again = await ended(host, boss, STOPPED, number=2, **known)
    assert again["outcome"] == "succeeded", again
    assert "The checkpoint of step 333 is written." in attempt.lines
    steps = [point["step"] for point in attempt.entries("metrics", "points") if point["name"] == "loss"]
    assert steps == [*range(1, 501), *range(1, 334), *range(334, 501)]
    assert again["model"]["files"] == unbroken["model"]["files"]  # the same weights, by their digest
    assert again["metrics"]["accuracy"] > 0.9


@pytest.mark.skipif(find_spec("torch") is None, reason="NO TORCH: the interpreter of bundles has none")
async def test_two_processes_of_torch_learn_to_read_in_a_sandbox(host: Host, boss: Boss, attempt: Attempt) -> None:
    program = (EXAMPLES / "digits-cnn" / "train.py").read_text()
    end = await ended(host, boss, program, nproc=2, memory=4 << 30, parameters={"epochs": 6}, register=True)
    assert end["outcome"] == "succeeded", (end, attempt.lines)
    assert end["metrics"]["accuracy"] > 0.9
    assert [file["path"] for file in end["model"]["files"]] == ["model.onnx"]
    assert end["model"]["signature"]["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
