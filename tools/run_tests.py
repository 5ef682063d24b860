"""Run the tests of every folder, each in a pytest of its own, and say at the end what pytest said.

    python tools/run_tests.py               everything, also what takes minutes
    python tools/run_tests.py --fast        without the whole suite as processes, and without what is slow
    python tools/run_tests.py --coverage    and measure; ends with the gate of tools/coverage_gate.py
    python tools/run_tests.py libs/kit      only these

A pytest for each folder: helpers of tests have short names, which may meet. Those of packages run on two processes;
the tests of the whole suite run alone, since they measure time and memory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("libs/*", "services/*", "sdk", "deploy/local", "examples/*", "tools")
MEASURED = ROOT / ".cache" / "coverage" / "data"
"""Of all parts; each part's own beside it. A folder of its own: whoever runs pytest alone measures elsewhere."""
NOTHING_COLLECTED = 5
SUMMARY = ("FAILED ", "ERROR ", "SKIPPED ", "XFAIL ", "XPASS ", "=")


@dataclass(frozen=True)
class Part:
    """Tests that one pytest runs."""

    name: str
    folder: Path
    alone: bool
    """Nothing beside it: it starts the whole suite."""


@dataclass(frozen=True)
class Outcome:
    name: str
    code: int
    seconds: float
    summary: Sequence[str]
    """pytest's last lines."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--fast", action="store_true", help="only what takes seconds")
    parser.add_argument("--coverage", action="store_true", help="measure what the tests touch, and judge it")
    parser.add_argument("--workers", type=int, default=2, help="processes for the tests of a package (default: 2)")
    parser.add_argument("folders", nargs="*", help="such as libs/kit; default: all")
    asked = parser.parse_args(arguments)
    chosen = [part for part in parts(ROOT) if not (asked.fast and part.alone)]
    if asked.folders:
        wanted = {folder.rstrip("/") for folder in asked.folders}
        chosen = [part for part in parts(ROOT) if part.name in wanted]
    if asked.coverage:
        shutil.rmtree(MEASURED.parent, ignore_errors=True)
        MEASURED.parent.mkdir(parents=True)
    outcomes = [run(part, asked.fast, asked.coverage, asked.workers) for part in chosen]
    judged = judge_coverage() if asked.coverage else 0
    sys.stdout.writelines(f"{line}\n" for line in told(outcomes))
    return 1 if judged or not outcomes or any(outcome.code for outcome in outcomes) else 0


def parts(root: Path) -> Iterator[Part]:
    """Packages first, then what crosses them, then the whole suite."""
    for pattern in PACKAGES:
        for folder in sorted(root.glob(pattern)):
            if (folder / "tests").is_dir():
                yield Part(str(folder.relative_to(root)), folder / "tests", alone=False)
    for folder in sorted(root.glob("tests/*"), key=lambda it: (it.name == "e2e", it.name)):
        if any(folder.glob("test_*.py")):
            yield Part(str(folder.relative_to(root)), folder, alone=folder.name == "e2e")


def run(part: Part, fast: bool, coverage: bool, workers: int) -> Outcome:
    """pytest's output as it comes, and its end kept."""
    sys.stdout.write(f"\n━━ {part.name}\n")
    sys.stdout.flush()
    began = time.monotonic()
    summary: list[str] = []
    with subprocess.Popen(
        command(part, fast, coverage, workers),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COVERAGE_FILE": f"{MEASURED}.{part.name.replace('/', '-')}"},
    ) as pytest:
        for line in pytest.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            if line.startswith(SUMMARY):
                summary.append(line.rstrip())
    code = 0 if pytest.returncode == NOTHING_COLLECTED else pytest.returncode
    return Outcome(part.name, code, time.monotonic() - began, ended(summary))


def command(part: Part, fast: bool, coverage: bool, workers: int) -> list[str]:
    options = ["-m", "not slow"] if fast else []
    options += [] if part.alone or workers < 2 else ["-n", str(workers), "--dist", "loadfile"]
    options += ["-v"] if part.alone else []
    options += ["--cov", "--cov-report="] if coverage else []
    return [sys.executable, "-m", "pytest", *options, str(part.folder)]


def ended(lines: Sequence[str]) -> list[str]:
    """Of all lines that look like a summary, those of the short one: failures, and the last."""
    starts = [n for n, line in enumerate(lines) if "short test summary info" in line]
    return [line for line in lines[starts[-1] + 1 if starts else -1 :] if line]


def judge_coverage() -> int:
    """Join what the parts measured, and ask the gate."""
    coverage = [sys.executable, "-m", "coverage"]
    joined = {**os.environ, "COVERAGE_FILE": str(MEASURED)}
    report = MEASURED.with_suffix(".json")
    for arguments in (["combine", "-q"], ["json", "-q", "-o", str(report)]):
        if code := subprocess.run([*coverage, *arguments], cwd=ROOT, env=joined).returncode:
            return code
    sys.stdout.write("\n━━ coverage\n")
    sys.stdout.flush()
    return subprocess.run([sys.executable, "tools/coverage_gate.py", str(report)], cwd=ROOT).returncode


def told(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """How long each took, then pytest's own words about each, the failures last."""
    yield "\n━━ times"
    for outcome in outcomes:
        yield f"{outcome.name:<26} {outcome.seconds:6.0f} s"
    yield "\n━━ results"
    for outcome in sorted(outcomes, key=lambda it: it.code != 0):
        yield f"{outcome.name}:"
        yield from outcome.summary or [f"pytest ended with code {outcome.code} and without a summary"]


if __name__ == "__main__":
    sys.exit(main())
