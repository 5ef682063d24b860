"""What the installed packages may be licensed under."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

PERMISSIVE = {
    "0BSD",
    "Apache",
    "Apache Software License",
    "Apache-2.0",
    "BSD",
    "BSD License",
    "3-Clause BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CNRI-Python",
    "Freely Distributable",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-0",
    "PSF-2.0",
    "Python Software Foundation License",
    "Zlib",
}
WEAK_COPYLEFT = {
    "LGPL-3.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
}
"""Bind changes of the package itself, not what uses it. Fine for tools; what we ship needs a reason."""


def installed(programs: Path, python: Path) -> Iterator[tuple[str, str, str]]:
    """Name, version and licence of what that Python can import, as pip-licenses reads it from the metadata.

    Raises CalledProcessError. Our own packages say their licence in the same way.
    """
    command = [str(programs / "pip-licenses"), "--python", str(python), "--from=mixed", "--format=json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for each in json.loads(done.stdout):
        yield each["Name"], each["Version"], each["License"]


def refused(expression: str, *, shipped: bool) -> bool:
    """Whether none of the ways that an expression offers is allowed.

    SPDX's words AND, OR and parentheses are read; a classifier's `;` counts as AND, since it does not say which.
    """
    allowed = PERMISSIVE if shipped else PERMISSIVE | WEAK_COPYLEFT
    if expression in allowed:
        return False
    return not _holds(re.findall(r"\(|\)|(?:(?!\bAND\b|\bOR\b|[();]).)+|AND|OR|;", expression), allowed)


def _holds(tokens: list[str], allowed: set[str]) -> bool:
    """The value of an expression whose names are true when allowed. OR binds less than AND."""
    words = [token.strip() for token in tokens if token.strip()]

    def either() -> bool:
        value = both()
        while words and words[0] == "OR":
            words.pop(0)
            value = both() or value
        return value

    def both() -> bool:
        value = one()
        while words and words[0] in ("AND", ";"):
            words.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        word = words.pop(0) if words else ""
        if word != "(":
            return word in allowed
        value = either()
        return bool(words) and words.pop(0) == ")" and value

    return either() and not words
