"""The whole suite as processes, in a home of its own, with the ways to hurt it."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from kit.testing import eventually
from trainyard import Client
from trainyard_local import board as boards
from trainyard_local import logs, memory, ports
from trainyard_local.home import Home
from trainyard_local.leash import dies_with_parent

T = TypeVar("T")
START = timedelta(seconds=120)
BACK = timedelta(seconds=20)  # five on a machine that does nothing else
PATIENCE = timedelta(seconds=180)


def until(check: Callable[[], T], timeout: timedelta = PATIENCE) -> T:
    """`eventually`, for tests that are not coroutines."""
    return asyncio.run(eventually(check, timeout))


class Suite:
    """Use it as a context: at its end nothing of it is left."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ty-"))
        self.home = Home(self._folder / "home")
        self.points = self._folder / "points"
        self.points.mkdir()
        self.port = ports.choose({}, ["gateway"])["gateway"]
        self.python = sys.executable
        self._process: subprocess.Popen[bytes] | None = None
        self._killed: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self, *, failpoints: Collection[str] = (), **env: str) -> None:
        """Start it and wait until it is ready. The same home may be started again, with other points."""
        self.home.make()
        asked = {
            "TRAINYARD_FAILPOINTS": ",".join(f"{name}=kill" for name in failpoints),
            "TRAINYARD_FAILPOINTS_DIR": str(self.points),
        }
        with self.home.log("supervisor").open("ab") as log:
            self._process = subprocess.Popen(
                [self.python, "-m", "trainyard_local.daemon", str(self.home.folder), str(self.port)],
                env={**os.environ, **asked, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(),
            )
        until(self._is_up, START)

    def _is_up(self) -> bool:
        assert self._process is not None
        state = boards.read(self.home.state)
        if self._process.poll() is not None:
            raise RuntimeError(f"{state.get('message')}\n{logs.tail(self.home.log('supervisor'), 40)}")
        return bool(state.get("pid") == self._process.pid and state["phase"] == "up")

    def stop(self) -> None:
        """End it as `trainyard down` does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """The first admin."""
        credentials = json.loads(self.home.credentials.read_text())
        with Client(credentials["url"], credentials["api_key"]) as client:
            yield client

    def programs(self) -> dict[str, dict[str, Any]]:
        """What runs, by its name."""
        found: dict[str, dict[str, Any]] = boards.read(self.home.state).get("programs", {})
        return found

    def pid(self, name: str) -> int:
        """Of a program that runs."""
        return int(until(lambda: self.programs()[name]["pid"], BACK))

    def kill(self, name: str) -> None:
        """kill -9."""
        self._killed[name] = pid = self.pid(name)
        with contextlib.suppress(ProcessLookupError):  # it was on its way back from an earlier one
            os.kill(pid, signal.SIGKILL)

    def is_back(self, name: str) -> bool:
        """Whether a program that was killed is ready again. The board may show the dead one for a moment."""
        program = self.programs()[name]
        return bool(program["ready"]) and program["pid"] != self._killed[name]

    def restarted(self, name: str, pid: int) -> None:
        """Wait until another process than this one is ready under this name."""

        def is_another() -> bool:
            program = self.programs()[name]
            return bool(program["ready"]) and program["pid"] != pid

        until(is_another, START)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stopped where it is (SIGSTOP), and continued."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def database_away(self) -> Iterator[None]:
        """No PostgreSQL: its supervisor goes on trying, and finds no data."""
        away = self.home.data.with_name("postgres.away")
        self.home.data.rename(away)
        self.kill("postgres")
        until(lambda: not self.programs()["postgres"]["ready"], BACK)
        try:
            yield
        finally:
            away.rename(self.home.data)

    def is_whole(self) -> bool:
        """Everything is ready."""
        return all(program["ready"] for program in self.programs().values())

    def fired(self) -> set[str]:
        """The failpoints that killed a process."""
        return {path.name.removesuffix(".fired") for path in self.points.iterdir()}

    def metric(self, program: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples in one process, asked directly."""
        port = self.programs()[program]["port"]
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        chosen = [it for it in samples if it.name == name and labels.items() <= it.labels.items()]
        return sum(sample.value for sample in chosen)

    def memory(self) -> int:
        """Bytes (PSS) of everything, the supervisor too."""
        assert self._process is not None
        return memory.used([self._process.pid])[self._process.pid] or 0

    def logged(self) -> list[str]:
        """The programs that have a log."""
        return sorted(path.stem for path in self.home.logs.glob("*.log"))

    def words(self, name: str, lines: int = 30) -> str:
        """The end of a program's log, for a message."""
        return logs.tail(self.home.log(name), lines)
