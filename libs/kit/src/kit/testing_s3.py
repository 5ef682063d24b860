"""A real S3 server for tests: SeaweedFS in a folder of its own, ended by SIGKILL, and as it was after another start.

Whoever starts it is told where it is by `env`, in the words that obstore reads.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Self

import httpx2

from kit.testing import eventually

BUCKET = "blobs"
SERVES = ("s3", "s3.port.iceberg", "s3.port.lance", "master", "filer", "volume", "admin")
START = timedelta(seconds=60)


class Seaweed:
    """Use it as a context: at its end nothing of it runs."""

    url = f"s3://{BUCKET}"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def env(self) -> dict[str, str]:
        """What a process has to be told to find it."""
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "of-a-test-only",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, on what is in its folder, and wait until it answers."""
        command = [_weed(), "mini", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [*command, *ports, "-admin.ui=false", "-webdav=false"],
                env={**os.environ, **self.env, "GOMEMLIMIT": "400MiB"},
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        with ThreadPoolExecutor(1) as beside:  # whoever needs it first may be a fixture that is run on a loop
            beside.submit(asyncio.run, eventually(self._answers, START)).result()

    def kill(self) -> None:
        """kill -9: to stop gracefully takes it ten seconds, and what is being tested must stand this too."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:  # pragma: no cover - where its ports are taken, its disk is full …
            raise RuntimeError((self._folder / "log").read_text()[-2000:])
        try:
            # 403: it is there, and wants to know who asks.
            return httpx2.get(f"{self.endpoint}/{BUCKET}", timeout=1, trust_env=False).status_code == 403
        except httpx2.TransportError:
            return False


def _weed() -> str:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if weed is None:  # pragma: no cover - an environment without what the lock says
        raise RuntimeError("There is no SeaweedFS here: it comes with the environment of the tests.")
    return weed


def free_ports() -> dict[str, int]:
    """A port for everything it serves. It opens another beside each, 10000 higher unless it is told which."""
    names = [name if "." in name else f"{name}.port" for name in SERVES]
    names += [f"{name}.port.grpc" for name in SERVES if "." not in name]
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: int(each.getsockname()[1]) for name, each in zip(names, sockets, strict=True)}
