"""The examples of docs/serving.md, as they stand there, by the clients that they are of, against a real process."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Process
from registries import Registry
from worlds import COLUMNS, LOGISTIC, rows, trained

from kit.testing import KeyFolder
from serving.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "serving.md"
OURS = {"flight-delays": "late", "scheduled_at": "at", "(2, 784)": "(2, 4)"}
"""What the page names, and what there is in this world of it."""
CLIENTS = {"triton", "kserve"}
"""Whose examples need an environment of their own, which `make test` makes."""


def examples() -> list[tuple[str, str]]:
    """Each with the name of the Python that runs it, or `bash`."""
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found = [(block.splitlines()[0].removeprefix("# ") if kind == "python" else kind, block) for kind, block in blocks]
    return [(name, block) for name, block in found if "export URL" not in block]


def test_the_page_has_an_example_of_every_way() -> None:
    assert [name for name, _ in examples()] == ["bash", "suite", "numpy", "triton", "kserve", "bash"]


async def test_every_example_runs(
    settings: Callable[..., Settings], key_folder: KeyFolder, registry: Registry, engine: object, tmp_path: Path
) -> None:
    registry.register("late", trained(LOGISTIC))
    registry.register("digits", trained(LOGISTIC, columns=COLUMNS[:4]))
    (tmp_path / "rows.json").write_text(json.dumps({"rows": rows(3)}))
    async with Process.started(settings(), key_folder, "all") as process:
        for name in ("late", "digits"):
            await process.http.put(f"/v1/deployments/{name}", json={"model": name})
            await process.http.get(f"/v1/deployments/{name}", params={"wait": "20s"})
        said = await asyncio.gather(*(_run(name, block, process, tmp_path) for name, block in examples()))
        answer = (await process.http.post("/v1/deployments/late/predict", json={"rows": rows(3)})).json()
    digits = [f"{it['score']:.9e}".replace(".", "")[:5] for it in answer["predictions"]]
    for name, text in said:
        if name != "numpy":
            assert all(it in text.replace(".", "") for it in digits), text


def _python(name: str) -> str:
    """That has the client."""
    if name not in CLIENTS:
        return sys.executable
    python = ROOT / ".cache" / name / "bin" / "python"
    if not python.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{python} is missing: `make .cache/{name}` makes it")
        pytest.skip(f"{python} is missing: `make test` makes it")
    return str(python)


async def _run(name: str, block: str, process: Process, folder: Path) -> tuple[str, str]:
    for theirs, ours in OURS.items():
        block = block.replace(theirs, ours)
    command = ["bash", "-euo", "pipefail", "-c", block] if name == "bash" else [_python(name), "-c", block]
    token = process.http.headers["authorization"].removeprefix("Bearer ")
    environment = {"PATH": os.environ["PATH"], "URL": str(process.http.base_url).rstrip("/"), "KEY": token}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment, stdout=pipe, stderr=pipe)
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    return name, out.decode()
