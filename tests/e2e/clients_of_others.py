"""Clients that nobody here wrote, each in an environment of its own that `make test` makes."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from worlds import rows_of

ROOT = Path(__file__).parents[2]


def python_of(name: str) -> Path:
    """The Python that has the client. Where it is missing the test is left out, and in CI it fails."""
    python = ROOT / ".cache" / name / "bin" / "python"
    if not python.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{python} is missing: `make .cache/{name}` makes it")
        pytest.skip(f"{python} is missing: `make test` makes it")
    return python


def run(name: str, program: str, order: dict[str, Any]) -> Any:
    """What a program beside this file answers to an order."""
    command = [str(python_of(name)), str(Path(__file__).with_name(program))]
    done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows() -> list[dict[str, Any]]:
    """Fifty, as JSON has them, with what is missing as null."""
    found = list(csv.DictReader(io.StringIO(rows_of(9).decode())))[:50]
    return [
        {
            "day": int(row["day"]),
            "hour": int(row["hour"]),
            "carrier": row["carrier"],
            "wind": None if row["wind"] == "NA" else float(row["wind"]),
        }
        for row in found
    ]
