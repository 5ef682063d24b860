"""Make a section of CHANGELOG.md from the fragments of changelog.d, or print one that is there.

    python tools/release_notes.py 1.2.0                 what the section would be
    python tools/release_notes.py 1.2.0 --write         write it, and remove the fragments
    python tools/release_notes.py 1.2.0 --released      print the section of CHANGELOG.md: a release's notes

A fragment is `changelog.d/<what>.md`: a sentence or two in users' words, or a list of its own.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(alpha|beta|rc)\.\d+)?")
HEADING = re.compile(r"^## (?P<version>\S+)", re.MULTILINE)
UNTOUCHED = "README.md"


class NoNotes(Exception):
    """Why there is nothing to print or write."""


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("version", help="such as 1.2.0 or 1.2.0-rc.1; a leading v is dropped")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--write", action="store_true", help="into CHANGELOG.md, and remove the fragments")
    how.add_argument("--released", action="store_true", help="print what CHANGELOG.md says of it")
    asked = parser.parse_args(arguments)
    version = asked.version.removeprefix("v")
    changelog = root / "CHANGELOG.md"
    try:
        if not VERSION.fullmatch(version):
            raise NoNotes(f"{version} is no version: MAJOR.MINOR.PATCH, and -rc.1 or the like behind it.")
        if asked.released:
            sys.stdout.write(released(changelog.read_text(), version))
            return 0
        fragments = fragments_in(root / "changelog.d")
        section = section_of(version, datetime.now(UTC).date(), [path.read_text() for path in fragments])
        after = with_section(changelog.read_text(), section, version)
    except NoNotes as exc:
        sys.stderr.write(f"✘ {exc}\n")
        return 1
    sys.stdout.write(section)
    if asked.write:
        # The notes first: who is stopped in between has them twice, not lost, and a second run says so.
        changelog.write_text(after)
        for path in fragments:
            path.unlink()
    return 0


def fragments_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.md") if path.name != UNTOUCHED)


def section_of(version: str, day: date, fragments: Sequence[str]) -> str:
    """One bullet for each fragment; one that is a list already stays as it is. Raises NoNotes when there is none."""
    if not fragments:
        raise NoNotes("There is no fragment in changelog.d: nothing that users would notice.")
    return f"## {version} ({day.isoformat()})\n\n" + "".join(_bullets(text) for text in fragments)


def _bullets(fragment: str) -> str:
    text = fragment.strip()
    if not text:
        raise NoNotes("A fragment of changelog.d is empty.")
    if re.search(r"^#", text, re.MULTILINE):
        raise NoNotes(f"A fragment of changelog.d has a heading: {text.splitlines()[0]}")
    if text.startswith("* "):
        return f"{text}\n"
    return "* " + text.replace("\n", "\n  ") + "\n"


def with_section(changelog: str, section: str, version: str) -> str:
    """The changelog with this section on top. Raises NoNotes when it has one of that version."""
    if version in (match["version"] for match in HEADING.finditer(changelog)):
        raise NoNotes(f"CHANGELOG.md has a section {version} already.")
    first = HEADING.search(changelog)
    head, rest = (changelog[: first.start()], changelog[first.start() :]) if first else (changelog, "")
    return f"{head.rstrip()}\n\n{section}" + (f"\n{rest}" if rest else "")


def released(changelog: str, version: str) -> str:
    """A version's section without its heading. Raises NoNotes."""
    for match in HEADING.finditer(changelog):
        if match["version"] == version:
            following = HEADING.search(changelog, match.end())
            body = changelog[match.end() : following.start() if following else len(changelog)]
            return body.split("\n", 1)[1].strip() + "\n"
    raise NoNotes(
        f"CHANGELOG.md has no section {version}: make release-notes VERSION={version} WRITE=1, commit, tag that."
    )


if __name__ == "__main__":
    sys.exit(main())
