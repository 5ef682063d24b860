"""Make or complete the environment of this checkout, from the lock and nothing else.

    python3 tools/environment.py run        .venv: what `make demo` needs
    python3 tools/environment.py test       .venv: and what `make test` needs
    python3 tools/environment.py checks     .cache/checks: what reads charts, images and workflows
    python3 tools/environment.py triton     .cache/triton: a client whose dependencies are at odds with ours
    python3 tools/environment.py kserve     .cache/kserve: another such client

Runs before anything is installed: standard library only. pip is asked, so that its configuration (an index of one's
own, a proxy, certificates) holds here too.
"""

import argparse
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
OLDEST = (3, 11)
TAIL = 30
PIP = ("install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--root-user-action", "ignore")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    folder: Path
    lock: Path
    ours: bool = True
    """Whether the packages of this repository are in it."""


ENVIRONMENTS = {
    "run": Environment(ROOT / ".venv", REQUIREMENTS / "run.txt"),
    "test": Environment(ROOT / ".venv", ROOT / "constraints.txt"),
    "checks": Environment(ROOT / ".cache" / "checks", REQUIREMENTS / "checks.txt", ours=False),
    "triton": Environment(ROOT / ".cache" / "triton", REQUIREMENTS / "triton.txt", ours=False),
    "kserve": Environment(ROOT / ".cache" / "kserve", REQUIREMENTS / "kserve.txt", ours=False),
}


class CannotInstall(Exception):
    """Why there is no environment, and what to do about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("purpose", choices=ENVIRONMENTS)
    wanted = ENVIRONMENTS[parser.parse_args(arguments).purpose]
    began = time.monotonic()
    try:
        refuse_old(sys.version_info[:2])
        python = made(wanted.folder)
        install(python, wanted.lock, packages_in(ROOT) if wanted.ours else [], status_line(sys.stderr.isatty()))
    except CannotInstall as exc:
        sys.stderr.write(f"\n✘ {exc}\n")
        return 1
    clear = "\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{clear}✔ {wanted.folder.name} is ready ({time.monotonic() - began:.0f} s)\n")
    return 0


def refuse_old(version: tuple[int, ...]) -> None:
    if version < OLDEST:
        raise CannotInstall(
            f"This is Python {version[0]}.{version[1]}; 3.11 or newer is needed: make PYTHON=python3.12 …"
        )


def made(venv: Path) -> Path:
    """The environment's own Python; the environment is made when it is missing or its Python is gone."""
    python = venv / "bin" / "python"
    if _works(python):
        return python
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True)
    if done.returncode or not _works(python):
        raise CannotInstall(
            f"{sys.executable} -m venv failed (on Debian and Ubuntu: apt install python3-venv).\n"
            + (done.stdout + done.stderr).strip()
        )
    return python


def _works(python: Path) -> bool:
    if not python.exists():
        return False
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def packages_in(root: Path) -> list[Path]:
    """The packages of this repository, each with its pyproject.toml."""
    found = [*root.glob("libs/*"), root / "sdk", root / "deploy" / "local", *root.glob("services/*")]
    return sorted(folder for folder in found if (folder / "pyproject.toml").exists())


def install(python: Path, lock: Path, packages: Sequence[Path], say: Say) -> None:
    """All of the lock, by hash, then the packages: these are editable, and what is editable has no hash."""
    count = len(re.findall(r"^[a-z0-9][^ ]*==", lock.read_text(), re.MULTILINE))
    say(f"Installing {count} packages of {lock.name}; the first time this downloads them …")
    _pip(python, ["--require-hashes", "-r", str(lock)], say)
    if not packages:
        return
    editable = [argument for folder in packages for argument in ("-e", str(folder))]
    say(f"Installing the {len(packages)} packages of this repository …")
    _pip(python, ["--no-deps", "--no-build-isolation", *editable], say)


def _pip(python: Path, arguments: Sequence[str], say: Say) -> None:
    command = [str(python), "-m", "pip", *PIP, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        if pip.stdout is None:
            raise CannotInstall("pip says nothing.")
        last = follow(pip.stdout, say)
    if pip.returncode:
        raise CannotInstall("pip failed:\n" + "\n".join(last))


def follow(lines: Iterable[str], say: Say) -> list[str]:
    """Say what pip is at; answers its last lines."""
    last: deque[str] = deque(maxlen=TAIL)
    collected = 0
    for line in lines:
        last.append(line.rstrip())
        if match := re.match(r"Collecting ([A-Za-z0-9._-]+)", line):
            collected += 1
            say(f"  {collected:3} {match[1]}")
        elif line.startswith(("Installing collected packages", "Building wheels")):
            say("  unpacking …" if line.startswith("Installing") else "  building …")
    return list(last)


def status_line(terminal: bool) -> Say:
    """One line that changes on a terminal; elsewhere only the headings, a line each."""

    def say(message: str) -> None:
        if terminal:
            sys.stderr.write(f"\r\x1b[K{message[:78]}\r")
        elif message and not message.startswith(" "):
            sys.stderr.write(f"{message}\n")
        sys.stderr.flush()

    return say


if __name__ == "__main__":
    sys.exit(main())
