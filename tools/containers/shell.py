"""Running other programs, and saying what is done."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

LAST = 2000
"""Characters of what a program said that are worth repeating."""


class Cannot(Exception):
    """What cannot be had here, and why."""


def say(message: str) -> None:
    """One line, at once: what follows may take a minute."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    within: timedelta = timedelta(minutes=10),
    folder: Path | None = None,
) -> str:
    """What a program wrote to its output.

    Raises:
        Cannot: it is not there, failed, or took too long.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within.total_seconds(),
        )
    except FileNotFoundError:
        raise Cannot(f"{words[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise Cannot(f"{' '.join(words[:4])} … took longer than {within}.") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-LAST:]
        raise Cannot(f"{' '.join(words[:6])} … ended with {done.returncode}: {said}")
    return done.stdout


def succeeds(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, seconds: float = 20
) -> bool:
    """Whether a program is there and ends well."""
    try:
        run(command, environment=environment, within=timedelta(seconds=seconds))
    except Cannot:
        return False
    return True
