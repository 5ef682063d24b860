"""Two releases of the suite in one Python: which of them a process is, a file says when it starts."""

import contextlib
import os
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2

ROOT = Path(__file__).parents[2]
PATTERNS = ("libs/*/src", "services/*/src", "sdk/src", "deploy/local/src")
# Runs at the start of every Python of the environment, also where it is isolated and its environment stripped.
# What a service starts is of the release that this service is; the models' twin is the trainer's.
SWITCH = """
import pathlib, sys
folder = pathlib.Path(__file__).parent / "releases"
words = getattr(sys, "orig_argv", sys.argv)
module = words[words.index("-m") + 1].partition(".")[0] if "-m" in words[:-1] else ""
chosen = folder / {"models": "trainer"}.get(module, module)
release = chosen.read_text() if module and chosen.exists() else (folder / "default").read_text()
sys.path[:0] = (folder / f"{release}.paths").read_text().splitlines()
sys.path.append((folder / "libraries").read_text())
"""


class Releases:
    """An interpreter for the suite's processes. All of them are `old` until something else is said."""

    def __init__(self, folder: Path, old: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = str(folder / "bin" / "python")
        place = next(folder.glob("lib/python*/site-packages"))
        self._folder = place / "releases"
        self._folder.mkdir()
        (place / "switch.py").write_text(SWITCH)
        (place / "switch.pth").write_text("import switch\n")
        # As a folder on the path its .pth files do nothing: what is installed there of ours is not found.
        (self._folder / "libraries").write_text(sysconfig.get_path("purelib"))
        for release, root in (("old", old), ("new", ROOT)):
            paths = [str(it) for pattern in PATTERNS for it in sorted(root.glob(pattern))]
            (self._folder / f"{release}.paths").write_text("\n".join(paths))
        (self._folder / "default").write_text("old")

    def choose(self, service: str, release: str) -> None:
        """From its next start on."""
        half = self._folder / f".{service}"
        half.write_text(release)
        half.rename(self._folder / service)


def environment_of(pid: int) -> dict[str, str]:
    """What a process was told."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


def release_of(python: str, service: str) -> str:
    """Of the code that this service has when it starts now: only the new one can verify its objects."""
    done = subprocess.run([python, "-m", service, "--help"], capture_output=True, text=True, check=True)
    return "new" if "verify" in done.stdout else "old"


def migrate(service: str, told: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The new release's migrations, on the database of a suite that runs."""
    return subprocess.run([sys.executable, "-m", service, "migrate"], env=told, capture_output=True, text=True)


@dataclass
class Load:
    """A client that asks the same things again and again, and remembers what it got and when."""

    url: str
    key: str
    paths: dict[str, object]
    """What is asked, and the body to post where there is one."""
    answers: list[tuple[float, str, int]] = field(default_factory=list)
    """When it was asked, what, and the status: 0 when nothing answered."""
    _stop: threading.Event = field(default_factory=threading.Event)
    restarts: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        with httpx2.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20) as client:
            while not self._stop.is_set():
                for path, body in self.paths.items():
                    began, status = time.monotonic(), 0
                    with contextlib.suppress(httpx2.TransportError):
                        method = "GET" if body is None else "POST"
                        status = client.request(method, path, json=body).status_code
                    self.answers.append((began, path, status))
                self._stop.wait(0.05)

    @contextlib.contextmanager
    def restart(self) -> Iterator[None]:
        """Of the only copy of a service: nobody answers for it meanwhile."""
        began = time.monotonic()
        yield
        self.restarts.append((began - 1, time.monotonic() + 1))

    def unexcused(self) -> list[tuple[str, int]]:
        """What failed though nothing was being restarted, or in another way than by nobody being there."""
        return [
            (path, status)
            for at, path, status in self.answers
            if status != 200 and not (status in (0, 503) and any(a <= at <= b for a, b in self.restarts))
        ]
