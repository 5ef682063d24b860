"""Whether the previous release works on the tables that this one makes of its own.

    python tools/upgrades.py store-tests                      of all services
    python tools/upgrades.py store-tests --service trainer    of some
    python tools/upgrades.py store-tests --all                and those of routes and reconcilers: minutes
    python tools/upgrades.py store-tests --previous v1.2.0    of another release than the newest
    python tools/upgrades.py export FOLDER                    only write the previous release there

During an upgrade, and after a roll-back, the previous release's code runs on the new schema. So its own tests do, in a
folder of its own: with its code, and databases that the new code has migrated.

The previous release is the newest tag `v…` before this commit, or the commit in contracts/PREVIOUS while there is none.
Where git does not have it (a shallow clone, an archive) this says so and passes, or fails with CI_REQUIRE_HISTORY=1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = Path("contracts") / "PREVIOUS"
SERVICES = ("ingest", "registry", "trainer", "serving", "pipelines", "gateway")
STATEMENTS = ("test_store*.py",)
EVERYTHING = (*STATEMENTS, "test_api*.py", "test_reconcile*.py")
"""Also the routes and loops that join the statements: minutes."""
WITHIN = 600
"""Seconds for the tests of one service."""


class NoHistory(Exception):
    """The previous release is not here, and why."""


@dataclass(frozen=True)
class Outcome:
    service: str
    tests: int
    failed: Sequence[str]
    skipped: int
    migrated: bool
    seconds: float
    output: str = ""

    @property
    def passed(self) -> bool:
        """Nothing failed, something ran, and on our schema."""
        return self.tests > self.skipped and not self.failed and self.migrated


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    tests = verbs.add_parser("store-tests", help="run the previous release's tests on this one's tables")
    tests.add_argument("--service", action="append", choices=SERVICES, help="only these (default: all)")
    tests.add_argument("--all", action="store_true", help="also the tests of routes and reconcilers")
    tests.add_argument("--new", type=Path, default=ROOT, help="the code whose migrations run (default: this one)")
    export = verbs.add_parser("export", help="write the previous release's files to a folder")
    export.add_argument("folder", type=Path)
    for verb in (tests, export):
        verb.add_argument("--previous", help="a tag or commit")
    asked = parser.parse_args(arguments)
    try:
        commit = previous(ROOT, asked.previous)
        if asked.verb == "export":
            exported(ROOT, commit, asked.folder)
            return 0
        chosen = EVERYTHING if asked.all else STATEMENTS
        return store_tests(commit, asked.new.resolve(), asked.service or SERVICES, chosen)
    except NoHistory as exc:
        required = os.environ.get("CI_REQUIRE_HISTORY") == "1"
        sys.stderr.write(f"!! NO PREVIOUS RELEASE: {exc} Upgrades are not tested.\n")
        return 1 if required else 0


def store_tests(commit: str, new: Path, services: Iterable[str], patterns: Iterable[str]) -> int:
    """Print a table, and what failed."""
    with tempfile.TemporaryDirectory(prefix="trainyard-previous-") as folder:
        exported(ROOT, commit, Path(folder))
        outcomes = []
        for service in services:
            outcomes.append(tested(Path(folder).resolve(), new, service, patterns))
            sys.stdout.write(f"{line(outcomes[-1])}\n")
            sys.stdout.flush()
    for outcome in outcomes:
        if not outcome.passed:
            sys.stdout.write(f"\n━━ {outcome.service}\n{outcome.output}\n")
    sys.stdout.write(f"\n{sum(it.tests for it in outcomes)} tests of {commit[:12]} on the tables of {new}\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def previous(root: Path, asked: str | None = None) -> str:
    """The commit of the previous release.

    Raises:
        NoHistory: git does not have it.
    """
    named = root / NAMED
    name = asked or next(_tags(root), None) or (named.read_text().strip() if named.exists() else None)
    if not name:
        raise NoHistory(f"there is no tag v…, and no {NAMED}.")
    found = _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.returncode:
        raise NoHistory(f"git does not have {name} here; `git fetch --unshallow --tags` brings it.")
    return found.stdout.strip()


def _tags(root: Path) -> Iterator[str]:
    """Releases behind this commit, the newest first; what is tagged here is this release itself."""
    here = set(_git(root, "tag", "--points-at", "HEAD").stdout.split())
    listed = _git(root, "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-v:refname").stdout.split()
    yield from (tag for tag in listed if tag not in here)


def _git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoHistory("git is not installed.") from None


def exported(root: Path, commit: str, folder: Path) -> None:
    """The files of a commit, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["git", "archive", commit], cwd=root, stdout=subprocess.PIPE) as archive:
        unpacked = subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout)
    if archive.returncode or unpacked.returncode:
        raise NoHistory(f"git could not write the files of {commit}.")


def paths(root: Path) -> list[str]:
    """Where Python finds the packages of a checkout: before those that are installed."""
    patterns = ("libs/*/src", "services/*/src", "sdk/src", "deploy/local/src")
    return [str(folder) for pattern in patterns for folder in sorted(root.glob(pattern))]


def tested(old: Path, new: Path, service: str, patterns: Iterable[str]) -> Outcome:
    """Run the old tests of one service."""
    began = time.monotonic()
    log, report = old / f".{service}.migrated", old / f".{service}.xml"
    folder = old / "services" / service / "tests"
    files = sorted(str(file) for pattern in patterns for file in folder.glob(pattern))
    told = {
        "PYTHONPATH": os.pathsep.join([*paths(old), str(Path(__file__).parent)]),
        "OLD_CODE": str(old),
        "NEW_SCHEMA_PATH": os.pathsep.join(paths(new)),
        "NEW_SCHEMA_LOG": str(log),
    }
    command = [sys.executable, "-m", "pytest", "-p", "new_schema", "-q", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "not slow", f"--junitxml={report}", *files],
        cwd=old,
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
    )
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 - pytest's own
    failed = [str(case.get("name")) for case in cases if {it.tag for it in case} & {"failure", "error"}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    if done.returncode and not failed:
        failed = [f"pytest ended with code {done.returncode}"]
    migrated = log.exists() and service in log.read_text().split()
    return Outcome(service, len(cases), failed, skipped, migrated, time.monotonic() - began, done.stdout)


def line(outcome: Outcome) -> str:
    said = "passed" if outcome.passed else f"FAILED ({len(outcome.failed)})"
    if not outcome.migrated:
        said = "FAILED (its tests migrated nothing)"
    return f"{outcome.service:<10} {outcome.tests:4} tests, {outcome.skipped} skipped  {outcome.seconds:4.0f} s  {said}"


if __name__ == "__main__":
    sys.exit(main())
