"""Vulnerabilities from a folder of advisories in OSV's format, such as a clone of pypa/advisory-database."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Hole = tuple[str, str, str, tuple[str, ...]]
"""Package, id, where it is fixed, other ids."""


def matching(folder: Path, packages: Sequence[tuple[str, str]]) -> Iterator[Hole]:
    """The holes of these packages, (canonical name, version). Only files that name one of them are parsed."""
    locked: dict[str, set[str]] = {}
    for name, version in packages:
        locked.setdefault(name, set()).add(version)
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.json")]):
        text = path.read_text(errors="replace")
        names = {canonicalize_name(name) for name in re.findall(r"pkg:pypi/([A-Za-z0-9._-]+)", text)}
        if names & locked.keys():
            yield from _of(yaml.safe_load(text), locked)


def _of(advisory: Mapping[str, Any], locked: Mapping[str, set[str]]) -> Iterator[Hole]:
    if advisory.get("withdrawn"):
        return
    for affected in advisory.get("affected", ()):
        name = canonicalize_name(affected["package"]["name"])
        if affected["package"]["ecosystem"] != "PyPI":
            continue
        for version in sorted(locked.get(name, ())):
            if is_affected(version, affected):
                aliases = tuple(sorted(advisory.get("aliases", ())))
                yield name, advisory["id"], f"{version}, fixed in {_fixed(affected)}", aliases


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """OSV's own rule: listed by name, or inside one of the ranges of released versions."""
    return version in affected.get("versions", ()) or any(
        _inside(Version(version), each["events"]) for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM"
    )


def _inside(version: Version, events: Sequence[Mapping[str, Any]]) -> bool:
    inside = False
    for kind, bound in sorted(((k, _version(v)) for event in events for k, v in event.items()), key=lambda it: it[1]):
        match kind:
            case "introduced" if version >= bound:
                inside = True
            case "fixed" if version >= bound:
                inside = False
            case "last_affected" if version > bound:
                inside = False
    return inside


def _version(text: Any) -> Version:
    """What is no version of Python's kind is older than all: an advisory too many is looked at, one too few is not."""
    try:
        return Version(str(text))
    except InvalidVersion:
        return Version("0")


def _fixed(affected: Mapping[str, Any]) -> str:
    fixed = [str(event["fixed"]) for each in affected.get("ranges", ()) for event in each["events"] if "fixed" in event]
    return ", ".join(fixed) or "nowhere yet"
