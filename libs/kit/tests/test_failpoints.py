"""Crashes on demand."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit import failpoints

PROGRAM = "from kit.failpoints import failpoint; failpoint('a.first'); failpoint('a.second'); print('through')"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_a_point_kills_the_process_once_over_all_its_restarts(tmp_path: Path) -> None:
    asked = {"TRAINYARD_FAILPOINTS": "a.second=kill", "TRAINYARD_FAILPOINTS_DIR": str(tmp_path)}
    assert run(**asked).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["a.second.fired"]
    assert run(**asked).stdout == "through\n"


def test_nothing_happens_where_nothing_is_asked() -> None:
    failpoints.failpoint("a.first")
    assert run().stdout == "through\n"


def test_points_are_read_from_the_environment(tmp_path: Path) -> None:
    asked = {"TRAINYARD_FAILPOINTS": " a.first=kill, a.second=kill,", "TRAINYARD_FAILPOINTS_DIR": str(tmp_path)}
    assert failpoints.points_of(asked) == {name: tmp_path / f"{name}.fired" for name in ("a.first", "a.second")}
    assert failpoints.points_of({}) == {}


def test_an_unknown_kind_of_failure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name=kill"):
        failpoints.points_of({"TRAINYARD_FAILPOINTS": "a.first=sleep", "TRAINYARD_FAILPOINTS_DIR": str(tmp_path)})


def test_a_point_is_due_once(tmp_path: Path) -> None:
    points = {"a.first": tmp_path / "a.first.fired"}
    assert [failpoints.is_due(name, points) for name in ("a.second", "a.first", "a.first")] == [False, True, False]
