"""Judge what is locked: known vulnerabilities, floors, licences.

    .cache/checks/bin/python tools/audit.py [--advisories FOLDER]

Prints a table of what was looked at and what was found; ends with 1 when something is found that
requirements/audit.toml does not justify, or justifies no longer. Vulnerabilities are asked of PyPI by pip-audit, or
read from a folder of advisories in OSV's format (a clone of pypa/advisory-database, say). Where nobody can be asked,
that is said loudly, and is a failure with CI_REQUIRE_AUDIT=1. Floors and licences need no network.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import advisories
import floors
import licences
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOTS = ("constraints.txt", "requirements/checks.txt", "requirements/triton.txt", "requirements/kserve.txt")
"""The locks that hold everything; all others are parts of the first."""
EXCEPTIONS = ROOT / "requirements" / "audit.toml"
NO_ANSWER = """!! NO VULNERABILITY SERVICE: {why}
!! Nobody was asked about {count} locked packages. Floors and licences were judged, vulnerabilities were not.
"""
PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)(?P<rest>(?:.*\\\n)*.*)$", re.M
)


@dataclass(frozen=True, order=True)
class Pin:
    name: str
    version: str
    lock: str


@dataclass(frozen=True, order=True)
class Finding:
    kind: str
    """vulnerability, floor, licence, lock or exception"""
    package: str
    what: str
    """What an exception names: an advisory's id, a licence."""
    detail: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Justified:
    """An entry of requirements/audit.toml."""

    kind: str
    package: str
    what: str
    reason: str
    until: date

    def fits(self, finding: Finding) -> bool:
        return (self.kind, self.package) == (finding.kind, finding.package) and self.what in (
            finding.what,
            *finding.aliases,
        )


class NobodyAnswers(Exception):
    """No service tells whether the locked packages are vulnerable."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--advisories", type=Path, help="a folder of advisories in OSV's format, instead of PyPI")
    asked = parser.parse_args(arguments)
    locks = sorted([ROOT / "constraints.txt", *ROOT.glob("requirements/**/*.txt")])
    pins = [pin for lock in locks for pin in pins_of(str(lock.relative_to(ROOT)), lock.read_text())]
    found = [*lock_findings(locks, pins), *floor_findings(pins), *licence_findings(pins)]
    unanswered = ""
    try:
        found += vulnerabilities(sorted({(pin.name, pin.version) for pin in pins}), asked.advisories)
    except NobodyAnswers as exc:
        unanswered = str(exc)
    justified = exceptions(EXCEPTIONS.read_text())
    # A folder of advisories knows some of what PyPI knows: it cannot say that an exception excuses nothing.
    complete = not unanswered and not asked.advisories
    open_, excused = judged(found, justified, datetime.now(UTC).date(), complete=complete)
    sys.stdout.writelines(f"{line}\n" for line in table(pins, open_, excused))
    if unanswered:
        sys.stdout.write(NO_ANSWER.format(why=unanswered, count=len({pin.name for pin in pins})))
    return 1 if open_ or (unanswered and os.environ.get("CI_REQUIRE_AUDIT") == "1") else 0


def pins_of(lock: str, text: str) -> Iterator[Pin]:
    for match in PIN.finditer(text):
        yield Pin(canonicalize_name(match["name"]), match["version"], lock)


def lock_findings(locks: Iterable[Path], pins: Iterable[Pin]) -> Iterator[Finding]:
    """What is locked without a hash, and what a part locks otherwise than the whole."""
    for lock in locks:
        for match in PIN.finditer(lock.read_text()):
            if "--hash=sha256:" not in match["rest"]:
                yield Finding("lock", canonicalize_name(match["name"]), "no hash", lock.name)
    whole = {(pin.name, pin.version) for pin in pins if pin.lock == ROOTS[0]}
    for pin in pins:
        if pin.lock not in ROOTS and (pin.name, pin.version) not in whole:
            yield Finding("lock", pin.name, "differs", f"{pin.version} in {pin.lock} is not in {ROOTS[0]}")


def floor_findings(pins: Iterable[Pin]) -> Iterator[Finding]:
    for pin in pins:
        if why := floors.breach(pin.name, pin.version):
            yield Finding("floor", pin.name, pin.version, f"{why} ({pin.lock})")


def licence_findings(pins: Iterable[Pin]) -> Iterator[Finding]:
    """Of what is installed: in .venv, of which images are parts, and in the checkers' own environment."""
    shipped = {pin.name for pin in pins if pin.lock.startswith("requirements/images/")}
    for environment in (".venv", ".cache/checks"):
        for name, version, licence in licences.installed(
            ROOT / ".cache/checks/bin", ROOT / environment / "bin" / "python"
        ):
            if licences.refused(licence, shipped=canonicalize_name(name) in shipped):
                where = "shipped" if canonicalize_name(name) in shipped else "a tool of ours"
                yield Finding("licence", canonicalize_name(name), licence, f"{version}, {where}")


def vulnerabilities(packages: Sequence[tuple[str, str]], folder: Path | None) -> list[Finding]:
    """Known holes of these versions. Raises NobodyAnswers."""
    if folder:
        return [Finding("vulnerability", *hole) for hole in advisories.matching(folder, packages)]
    with tempfile.TemporaryDirectory() as work:
        lock = Path(work) / "lock.txt"
        # One question first: where nobody answers, hundreds more would only take time.
        list(pip_audit(lock, dict(packages[:1])))
        return [found for part in spread(packages) for found in pip_audit(lock, part)]


def spread(packages: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """As few lists as hold every package once: two locks may have two versions of one."""
    lists: list[dict[str, str]] = []
    for name, version in packages:
        for each in lists:
            if name not in each:
                each[name] = version
                break
        else:
            lists.append({name: version})
    return lists


def pip_audit(lock: Path, packages: Mapping[str, str]) -> Iterator[Finding]:
    """Ask PyPI by pip-audit. A package that it skips is a question without an answer, never a clean one."""
    lock.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
    program = str(Path(sys.executable).with_name("pip-audit"))
    options = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", "--timeout=10", "-r", str(lock)]
    done = subprocess.run([program, *options], capture_output=True, text=True, timeout=900)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise NobodyAnswers((done.stderr.strip() or "pip-audit said nothing").splitlines()[-1][:200]) from None
    yield from told(answer, packages)


def told(answer: Mapping[str, Any], packages: Mapping[str, str]) -> Iterator[Finding]:
    """What pip-audit's JSON says. Raises NobodyAnswers when it says nothing of a package."""
    about = {str(canonicalize_name(each["name"])): each for each in answer["dependencies"]}
    silent = sorted(name for name in packages if name not in about or "skip_reason" in about[name])
    if silent:
        raise NobodyAnswers(
            f"PyPI does not answer about {len(silent)} of {len(packages)} packages: {', '.join(silent[:5])} …"
        )
    for name, each in about.items():
        for hole in each["vulns"]:
            fixed = ", ".join(hole["fix_versions"]) or "nowhere yet"
            detail = f"{each['version']}, fixed in {fixed}"
            yield Finding("vulnerability", name, hole["id"], detail, tuple(hole["aliases"]))


def exceptions(text: str) -> list[Justified]:
    """Entries of requirements/audit.toml: `[[kind]]` with package, what, reason and until."""
    return [Justified(kind, **entry) for kind, entries in tomllib.loads(text).items() for entry in entries]


def judged(
    found: Iterable[Finding], justified: Sequence[Justified], today: date, *, complete: bool
) -> tuple[list[Finding], list[tuple[Finding, Justified]]]:
    """What stays open, and what is excused. An exception out of date, or that excuses nothing, is a finding itself."""
    open_: list[Finding] = []
    excused: list[tuple[Finding, Justified]] = []
    for finding in sorted(set(found)):
        entry = next((it for it in justified if it.fits(finding)), None)
        if entry and entry.until >= today:
            excused.append((finding, entry))
        else:
            open_.append(finding)
    used = {entry for _, entry in excused}
    for entry in justified:
        if entry.until < today:
            open_.append(Finding("exception", entry.package, entry.what, f"held until {entry.until}"))
        elif entry not in used and (complete or entry.kind != "vulnerability"):
            open_.append(Finding("exception", entry.package, entry.what, "excuses nothing any more: remove it"))
    return open_, excused


def table(pins: Sequence[Pin], open_: Sequence[Finding], excused: Sequence[tuple[Finding, Justified]]) -> Iterator[str]:
    for lock in sorted({pin.lock for pin in pins}):
        yield f"{lock:<36} {sum(pin.lock == lock for pin in pins):4} packages"
    for finding, entry in excused:
        yield f"· {finding.kind:<14} {finding.package:<20} {finding.what}: {entry.reason} (until {entry.until})"
    for finding in open_:
        yield f"✘ {finding.kind:<14} {finding.package:<20} {finding.what}: {finding.detail}"
    yield f"{len(open_)} findings, {len(excused)} excused"


if __name__ == "__main__":
    sys.exit(main())
