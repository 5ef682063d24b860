"""Refuse a run whose tests leave too much of the code alone.

    python tools/coverage_gate.py coverage.json

Every line of `domain/` and of `libs/kit` is covered, and 90 % of each package beside these.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

REST = 90.0


@dataclass
class Lines:
    covered: int = 0
    all: int = 0

    @property
    def percent(self) -> float:
        return 100 * self.covered / self.all if self.all else 100.0


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    report = json.loads(Path(given[0]).read_text())
    files = {PurePath(name): Lines(**_counts(file["summary"])) for name, file in report["files"].items()}
    missing = {PurePath(name): file["missing_lines"] for name, file in report["files"].items()}
    found = list(shortfalls(files, missing))
    for name, lines in sorted(by_package(files).items()):
        sys.stdout.write(f"{name:<16} {lines.percent:6.1f} %  of {lines.all} lines\n")
    for shortfall in found:
        sys.stdout.write(f"✘ {shortfall}\n")
    return 1 if found else 0


def _counts(summary: Mapping[str, int]) -> dict[str, int]:
    return {"covered": summary["covered_lines"], "all": summary["num_statements"]}


def is_whole(path: PurePath) -> bool:
    """Whether every line of this file has to be covered."""
    return "domain" in path.parts or path.parts[:2] == ("libs", "kit")


def package_of(path: PurePath) -> str:
    """`trainer` of `services/trainer/src/trainer/app.py`."""
    return path.parts[path.parts.index("src") + 1] if "src" in path.parts else path.parts[0]


def by_package(files: Mapping[PurePath, Lines]) -> dict[str, Lines]:
    found: dict[str, Lines] = defaultdict(Lines)
    for path, lines in files.items():
        found[package_of(path)].covered += lines.covered
        found[package_of(path)].all += lines.all
    return dict(found)


def shortfalls(files: Mapping[PurePath, Lines], missing: Mapping[PurePath, Sequence[int]]) -> Iterator[str]:
    """What is covered too little, in words."""
    for path, lines in sorted(files.items()):
        if is_whole(path) and lines.covered < lines.all:
            yield f"{path}: every line is to be covered, these are not: {', '.join(map(str, missing[path]))}"
    rest = {path: lines for path, lines in files.items() if not is_whole(path)}
    for name, lines in sorted(by_package(rest).items()):
        if lines.percent < REST:
            yield f"{name}: {lines.percent:.1f} % of the lines beside domain/ are covered, {REST:.0f} % are the least"


if __name__ == "__main__":
    sys.exit(main())
