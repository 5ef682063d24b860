"""Plant each known bug in a copy of the tree: the tests that are named for it must fail, and pass without it.

    python tools/mutants.py             all of tests/mutants/*.patch
    python tools/mutants.py no-fence    these

A patch begins with lines of its own: `Bug: …`, and `Tests: …` with what pytest is given. A test suite that never failed
proves nothing.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATCHES = ROOT / "tests" / "mutants"
TESTS_FAILED = 1  # pytest's exit code; others say that it could not run them


@dataclass(frozen=True)
class Mutant:
    patch: Path
    bug: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.patch.stem


@dataclass(frozen=True)
class Verdict:
    mutant: Mutant
    caught: bool
    words: str
    seconds: float = 0.0


class Stale(Exception):
    """A patch that fits the code no more."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="of patches; default: all")
    asked = parser.parse_args(arguments)
    mutants = [mutant for mutant in mutants_in(PATCHES) if not asked.names or mutant.name in asked.names]
    with tempfile.TemporaryDirectory(prefix="trainyard-mutants-") as folder:
        tree = Path(folder) / "tree"
        copy(ROOT, tree)
        verdicts = []
        for mutant in mutants:
            verdicts.append(tried(mutant, tree))
            say(verdicts[-1])
    missed = [verdict.mutant.name for verdict in verdicts if not verdict.caught]
    sys.stdout.write(f"{len(verdicts) - len(missed)} of {len(verdicts)} planted bugs caught\n")
    return 1 if missed or not verdicts else 0


def mutants_in(folder: Path) -> Iterator[Mutant]:
    for patch in sorted(folder.glob("*.patch")):
        text = patch.read_text()
        bug, tests = (re.search(rf"^{word}: (.+)$", text, re.MULTILINE) for word in ("Bug", "Tests"))
        if bug is None or tests is None:
            raise Stale(f"{patch.name} must say `Bug: …` and `Tests: …`")
        yield Mutant(patch, bug[1], tuple(shlex.split(tests[1])))


def copy(source: Path, target: Path) -> None:
    """The files of the repository, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def tried(mutant: Mutant, tree: Path) -> Verdict:
    """The tests without the bug, then with it."""
    began = time.monotonic()
    code, words = pytest(tree, mutant.tests)
    if code:
        return Verdict(mutant, False, f"its tests do not pass without it: {words}")
    try:
        apply(mutant.patch, tree)
    except Stale as exc:
        return Verdict(mutant, False, str(exc))
    try:
        code, words = pytest(tree, mutant.tests)
    finally:
        apply(mutant.patch, tree, "--reverse")
    return Verdict(mutant, code == TESTS_FAILED, words, time.monotonic() - began)


def apply(patch: Path, tree: Path, *options: str) -> None:
    done = subprocess.run(["git", "apply", *options, str(patch)], cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise Stale(f"{patch.name} does not apply: {done.stderr.strip()}")


def pytest(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """The exit code, and what failed or pytest's last line."""
    # Before the environment's own entries, which name the checkout: children find the copy too.
    sources = [*tree.glob("libs/*/src"), tree / "sdk/src", tree / "deploy/local/src", *tree.glob("services/*/src")]
    path = os.pathsep.join(str(source) for source in sources)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return done.returncode, (failed or lines)[-1]


def say(verdict: Verdict) -> None:
    mark = "✔ caught" if verdict.caught else "✘ MISSED"
    sys.stdout.write(f"{mark}  {verdict.mutant.name:<32} {verdict.seconds:5.1f} s  {verdict.mutant.bug}\n")
    sys.stdout.write(f"          {verdict.words.split(' - ')[0][:140]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
