"""Which tests are run how, and what is said at the end."""

from pathlib import Path

import pytest
import run_tests
from run_tests import Outcome, Part


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder in ("tests/e2e", "tests/contract", "services/b/tests", "libs/a/tests", "libs/c/src"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "test_it.py").touch()
    (tmp_path / "tests" / "mutants").mkdir()
    return tmp_path


def test_packages_come_first_and_the_whole_suite_last(repository: Path) -> None:
    parts = list(run_tests.parts(repository))
    assert [part.name for part in parts] == ["libs/a", "services/b", "tests/contract", "tests/e2e"]
    assert [part.alone for part in parts] == [False, False, False, True]


def test_the_whole_suite_is_tested_alone() -> None:
    assert "-n" not in run_tests.command(Part("tests/e2e", Path("e2e"), alone=True), False, False, 2)
    assert "-n" in run_tests.command(Part("libs/a", Path("a"), alone=False), False, False, 2)
    assert "-n" not in run_tests.command(Part("libs/a", Path("a"), alone=False), False, False, 1)


def test_fast_leaves_out_what_is_slow() -> None:
    part = Part("libs/a", Path("a"), alone=False)
    assert "not slow" in run_tests.command(part, fast=True, coverage=False, workers=2)
    assert "not slow" not in run_tests.command(part, fast=False, coverage=True, workers=2)


def test_the_end_of_pytest_is_kept() -> None:
    lines = ["=== FAILURES ===", "=== short test summary info ===", "FAILED a::b - why", "=== 1 failed ==="]
    assert run_tests.ended(lines) == ["FAILED a::b - why", "=== 1 failed ==="]
    assert run_tests.ended(["=== test session starts ===", "=== 3 passed ==="]) == ["=== 3 passed ==="]
    assert run_tests.ended([]) == []


def test_failures_are_told_last() -> None:
    outcomes = [Outcome("a", 1, 2.0, ["FAILED x", "=== 1 failed ==="]), Outcome("b", 0, 3.0, ["=== 2 passed ==="])]
    told = list(run_tests.told(outcomes))
    assert told[-5:] == ["b:", "=== 2 passed ===", "a:", "FAILED x", "=== 1 failed ==="]


def test_a_pytest_that_says_nothing_is_named() -> None:
    assert "code -9" in list(run_tests.told([Outcome("a", -9, 1.0, [])]))[-1]
