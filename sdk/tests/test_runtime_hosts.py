"""Two hosts train one model, one is lost within an epoch: the other goes on, and no row is lost or repeated."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `torch_here` and `two_hosts`

import torch_here
from two_hosts import BATCH, EPOCHS, INTERVAL, LOST_AT, ROWS

torch_here.need()

UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
MISSING = "NO NETWORK NAMESPACES: a training of two hosts is not tried (unshare, ip, and namespaces for anybody)"


def need_namespaces() -> None:
    tools = all(shutil.which(name) for name in ("unshare", "nsenter", "ip"))
    cable = "ip link add host1 type veth peer name host2 && ip link del host1"
    if tools and subprocess.run([*UNSHARE, "sh", "-c", cable], capture_output=True).returncode == 0:
        return
    if os.environ.get("CI"):
        pytest.fail(MISSING)
    pytest.skip(MISSING)


def seen_in(folder: Path) -> list[dict[str, Any]]:
    """What counts: of a step that was done again, what was done by the processes that did it last."""
    steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for host in (1, 2):
        for line in (folder / f"seen-{host}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            steps[entry["step"]].append(entry)
    return [entry for done in steps.values() for entry in done if entry["world"] == min(it["world"] for it in done)]


@pytest.mark.slow
def test_one_is_lost_and_the_other_goes_on(tmp_path: Path) -> None:
    need_namespaces()
    command = [*UNSHARE, sys.executable, str(Path(__file__).parent / "two_hosts.py"), str(tmp_path)]
    done = subprocess.run(command, env=torch_here.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = seen_in(tmp_path)
    steps = -(-ROWS // BATCH) * EPOCHS
    assert {entry["step"] for entry in seen} == set(range(1, steps + 1))
    for epoch in range(EPOCHS):
        rows = Counter(row for entry in seen if entry["epoch"] == epoch for row in entry["rows"])
        assert rows == Counter(range(ROWS))
    worlds = {entry["step"]: entry["world"] for entry in seen}
    saved = (LOST_AT - 1) // INTERVAL * INTERVAL
    assert [worlds[step] for step in (1, saved, saved + 1, steps)] == [2, 2, 1, 1]
