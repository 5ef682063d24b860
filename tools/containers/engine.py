"""A Docker engine: the one that answers on this machine, or one of our own.

Ours is Debian's dockerd with everything it has in one folder, and ended by its process id. It works in one of two
places at a time, over the same images: in the host's network without bridges, where builds reach a package index and
the host's network stays as it is; or in a network namespace of its own, with bridges, names and published ports, where
nothing of this machine sees it.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from containers import debs
from containers.shell import Cannot, run, say, succeeds

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".cache" / "engine"
SOCKET_NAME = 107
"""Bytes that the path of a socket may have."""
STARTS = timedelta(seconds=30)
ENDS = timedelta(seconds=40)
LOOK = 0.1
NO_NETWORK = (
    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    *("--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"),
)


class Place(StrEnum):
    """Where an engine of ours works."""

    BUILD = "build"
    """In the host's network: builds reach what the host reaches."""
    RUN = "run"
    """In a network namespace of its own."""


@dataclass(frozen=True)
class Engine:
    """How to reach an engine."""

    own: bool
    environment: Mapping[str, str] = field(repr=False)
    namespace: Path | None = None
    """The network in which its published ports are, when that is not this machine's."""

    def docker(self, *words: str | Path, within: timedelta = timedelta(minutes=10)) -> str:
        """What `docker …` says.

        Raises:
            Cannot: it failed.
        """
        return run(["docker", *words], environment=self.environment, within=within)

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command where the engine's published ports can be reached."""
        return [*(["nsenter", f"--net={self.namespace}"] if self.namespace else []), *command]


@dataclass(frozen=True)
class Own:
    """An engine in a folder."""

    home: Path = HOME

    @property
    def socket(self) -> Path:
        return self.home / "docker.sock"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def log(self) -> Path:
        return self.home / "dockerd.log"

    @property
    def network(self) -> str:
        return f"trainyard-{sha256(str(self.home).encode()).hexdigest()[:8]}"

    @property
    def namespace(self) -> Path:
        return Path("/run/netns") / self.network

    @property
    def pid(self) -> int | None:
        """Of the dockerd that runs here. A number that something else has meanwhile is none."""
        try:
            pid = int((self.home / "dockerd.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"--data-root={self.data}".encode() in words else None

    @property
    def place(self) -> Place | None:
        """Where it works, when it does."""
        if (pid := self.pid) is None:
            return None
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return Place.BUILD if b"--bridge=none" in words else Place.RUN

    def engine(self, place: Place) -> Engine:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.config)}
        for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"):
            environment.pop(name, None)
        return Engine(True, environment, self.namespace if place is Place.RUN else None)

    def up(self, place: Place) -> Engine:
        """Start it, or move it there.

        Raises:
            Cannot: this machine has no way to.
        """
        if os.geteuid() != 0:
            raise Cannot("No Docker engine answers, and only root can start one.")
        if len(str(self.socket)) > SOCKET_NAME:
            raise Cannot(f"{self.socket} is too long a name for a socket.")
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        debs.programs()
        debs.plugins(self.home / "apt", self.config / "cli-plugins")
        if self.place is not place:
            self.down()
            self._start(place)
        return self.engine(place)

    def _start(self, place: Place) -> None:
        inside: list[str] = []
        if place is Place.RUN:
            if not self.namespace.exists():
                run(["ip", "netns", "add", self.network])
            inside = ["nsenter", f"--net={self.namespace}"]
            run([*inside, "ip", "link", "set", "lo", "up"])
        command = [
            *inside,
            "dockerd",
            f"--data-root={self.data}",
            f"--exec-root={self.home / 'exec'}",
            f"--pidfile={self.home / 'dockerd.pid'}",
            f"--host=unix://{self.socket}",
            *(NO_NETWORK if place is Place.BUILD else ()),
        ]
        with self.log.open("ab") as log:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + STARTS.total_seconds()
        while not succeeds(["docker", "version"], environment=self.engine(place).environment):
            if time.monotonic() > until:
                raise Cannot(f"dockerd does not answer: {self.log.read_text(errors='replace')[-1500:]}")
            time.sleep(LOOK)
        say(f"engine: our own dockerd, for {place.value} ({'own network' if inside else 'network of the host'})")

    def down(self) -> None:
        """End it with all that runs in it. What it has on disk stays."""
        if (pid := self.pid) is not None:
            docker = self.engine(self.place or Place.RUN).docker
            if running := docker("ps", "--all", "--quiet").split():
                docker("rm", "--force", "--volumes", *running)
            docker("network", "prune", "--force")
            _end(pid)
        for mount in reversed(_mounts_below(self.home)):
            run(["umount", "--lazy", mount])
        if self.namespace.exists():
            run(["ip", "netns", "delete", self.network])

    def wipe(self) -> None:
        """Remove all that it has on disk."""
        self.down()
        shutil.rmtree(self.home, ignore_errors=True)


def find(place: Place) -> Engine:
    """The engine of this machine, else our own.

    Raises:
        Cannot: there is none, and there is no way to have one.
    """
    if Own().pid is None and succeeds(["docker", "version"]):
        if not succeeds(["docker", "compose", "version"]):
            raise Cannot("A Docker engine answers, but its client has no Compose v2.")
        return Engine(False, dict(os.environ))
    return Own().up(place)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + ENDS.total_seconds()
    while _is_there(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(LOOK)


def _is_there(pid: int) -> bool:
    try:
        return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except OSError:
        return False


def _mounts_below(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]
