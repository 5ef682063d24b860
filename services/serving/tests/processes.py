"""Serving as a process of its own, on a port of its own."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import httpx2

from kit.testing import KeyFolder, eventually
from serving.settings import Settings


@dataclass(frozen=True)
class Process:
    process: asyncio.subprocess.Process
    http: httpx2.AsyncClient

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls, settings: Settings, keys: KeyFolder, mode: str = "api", more: Mapping[str, str] | None = None
    ) -> AsyncIterator[Self]:
        """Once it is ready. `more` is told by its environment."""
        port = free_port()
        values = settings.model_dump(exclude_none=True)
        environment = {f"SERVING_{name.upper()}": str(value) for name, value in values.items()}
        environment |= {
            "SERVING_DATABASE_URL": settings.url,
            "SERVING_PORT": str(port),
            "PATH": os.environ["PATH"],
            **(more or {}),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serving", mode, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        url, headers = f"http://127.0.0.1:{port}", keys.headers("serving")
        try:
            async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
                it = cls(process, http)
                await eventually(it.is_ready, timedelta(seconds=60))
                yield it
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()

    async def is_ready(self) -> bool:
        if self.process.returncode is not None:
            raise RuntimeError(f"It ended with {self.process.returncode}.")
        with contextlib.suppress(httpx2.TransportError):
            return (await self.http.get("/readyz")).is_success
        return False

    def pss(self) -> int:
        """Bytes of memory that are its own, and its part of what it shares."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def libraries(self) -> str:
        """The paths of all that is mapped into it."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def peak_of(pid: int | str) -> int:
    """Bytes of memory that a process ever had at one time."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10
