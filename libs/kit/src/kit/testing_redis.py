"""A Redis server of one test's own: Debian's `redis-server`, on a free port, ended by its process."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis, RedisError

from kit.server import listen

MISSING = "There is no redis-server: install Debian's."


class RedisServer:
    """It is started, killed and started again by the test, on the same port; what it knew is gone each time."""

    def __init__(self, binary: str, port: int) -> None:
        self._binary = binary
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: str) -> Any:
        with Redis(port=self.port) as it:
            return it.execute_command(*command)

    def start(self) -> None:
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - found by its name

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.ask("PING"))
        return False


def redis_server() -> Iterator[RedisServer]:
    """A fixture's body. Not started yet; without a server's program a failure in CI, and a skip elsewhere."""
    binary = shutil.which("redis-server")
    if binary is None:  # pragma: no cover - everywhere but where it is missing
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with listen("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
    it = RedisServer(binary, port)
    yield it
    it.kill()
