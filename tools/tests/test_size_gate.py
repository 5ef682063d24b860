"""What is refused, and what is not."""

import subprocess
from pathlib import Path

import pytest
import size_gate

SOURCE = Path("services/x/src/x/app.py")
TEST = Path("services/x/tests/test_app.py")


def test_a_file_of_400_lines_passes_and_one_of_401_does_not() -> None:
    assert list(size_gate.mistakes(SOURCE, "x = 1\n" * 400)) == []
    assert list(size_gate.mistakes(SOURCE, "x = 1\n" * 401)) == [f"{SOURCE}:1: 401 lines, 400 are the most"]


@pytest.mark.parametrize("head", ["def f():", "async def f():"])
def test_a_function_of_60_lines_passes_and_one_of_61_does_not(head: str) -> None:
    assert list(size_gate.mistakes(SOURCE, f"{head}\n" + "    x = 1\n" * 59)) == []
    assert list(size_gate.mistakes(SOURCE, f"\n{head}\n" + "    x = 1\n" * 60)) == [
        f"{SOURCE}:2: f has 61 lines, 60 are the most"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "from unittest.mock import patch",
        "from unittest import mock",
        "import unittest.mock",
        "import mock",
        "monkeypatch.setattr(thing, 'name', 1)",
        "mocker.patch('a.b')",
        "time.sleep(1)",
        "await asyncio.sleep(0.1)",
        "sleep(3)",
    ],
)
def test_tests_neither_patch_nor_sleep(line: str) -> None:
    text = f"async def test_it(monkeypatch, mocker):\n    {line}\n"
    assert [it.split(": ")[0] for it in size_gate.mistakes(TEST, text)] == [f"{TEST}:2"]
    assert list(size_gate.mistakes(SOURCE, text)) == []


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.sleep(0)",
        "await client.patch('/v1/datasets/x')",
        "monkeypatch.setenv('A', 'b')",
        "x = 'sleep(1)'",
    ],
)
def test_what_only_looks_like_it_passes(line: str) -> None:
    assert list(size_gate.mistakes(TEST, f"async def test_it():\n    {line}\n")) == []


def test_one_place_may_poll() -> None:
    assert list(size_gate.mistakes(size_gate.MAY_POLL, "sleep(1)\n")) == []


def test_the_program_says_each_mistake_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "short.py").write_text("x = 1\n")
    assert size_gate.main([str(tmp_path)]) == 0
    (tmp_path / "long.py").write_text("x = 1\n" * 500)
    assert size_gate.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "long.py:1: 500 lines, 400 are the most\n"
