"""Planted bugs: that each still fits, and that the runner tells caught from missed."""

import subprocess
from pathlib import Path

import mutants
import pytest
from mutants import Mutant

ORDERED = {
    "collection-without-hold",
    "commit-after-the-answer",
    "idempotency-row-after-the-effect",
    "key-check-skipped-on-one-verb",
    "no-fence",
    "row-before-bytes",
    "terminal-state-overwritten",
    "unverified-model",
}


def test_none_of_the_planted_bugs_is_gone() -> None:
    assert {mutant.name for mutant in mutants.mutants_in(mutants.PATCHES)} >= ORDERED


@pytest.mark.parametrize("mutant", list(mutants.mutants_in(mutants.PATCHES)), ids=lambda mutant: mutant.name)
def test_every_patch_fits_and_its_tests_are_there(mutant: Mutant) -> None:
    done = subprocess.run(
        ["git", "apply", "--check", str(mutant.patch)], cwd=mutants.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for test in mutant.tests:
        if not test.startswith("-") and "/" in test:
            assert (mutants.ROOT / test.split("::")[0]).exists(), test


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "libs/adding/src").mkdir(parents=True)
    (folder / "libs/adding/src/adding.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
    (folder / "test_adding.py").write_text(
        "from adding import add\n\n\ndef test_two_and_two():\n    assert add(2, 2) == 4\n\n\n"
        "def test_two_and_three():\n    assert add(2, 3) == 5\n"
    )
    return folder


def planted(tmp_path: Path, tests: str, line: str = "a * b") -> Mutant:
    patch = tmp_path / "times.patch"
    patch.write_text(
        f"Bug: times for plus\nTests: {tests}\n\n--- a/libs/adding/src/adding.py\n+++ b/libs/adding/src/adding.py\n"
        f"@@ -1,2 +1,2 @@\n def add(a: int, b: int) -> int:\n-    return a + b\n+    return {line}\n"
    )
    return next(mutants.mutants_in(tmp_path))


def test_a_bug_that_the_tests_find_is_caught_and_taken_out_again(tree: Path, tmp_path: Path) -> None:
    verdict = mutants.tried(planted(tmp_path, "test_adding.py"), tree)
    assert verdict.caught
    assert "test_two_and_three" in verdict.words
    assert "a + b" in (tree / "libs/adding/src/adding.py").read_text()


def test_a_bug_that_they_do_not_find_is_missed(tree: Path, tmp_path: Path) -> None:
    assert not mutants.tried(planted(tmp_path, "test_adding.py::test_two_and_two"), tree).caught


def test_tests_that_cannot_run_catch_nothing(tree: Path, tmp_path: Path) -> None:
    verdict = mutants.tried(planted(tmp_path, "test_nowhere.py"), tree)
    assert not verdict.caught
    assert verdict.words.startswith("its tests do not pass without it")


def test_a_patch_that_fits_no_more_is_said(tree: Path, tmp_path: Path) -> None:
    (tree / "libs/adding/src/adding.py").write_text("def add(one: int, two: int) -> int:\n    return one + two\n")
    verdict = mutants.tried(planted(tmp_path, "test_adding.py"), tree)
    assert not verdict.caught
    assert "does not apply" in verdict.words


def test_a_patch_without_a_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it.patch").write_text("--- a/x\n+++ b/x\n")
    with pytest.raises(mutants.Stale, match=r"it\.patch must say"):
        list(mutants.mutants_in(tmp_path))
