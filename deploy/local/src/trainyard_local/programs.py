"""What the supervisor runs: a program, and how to see that it can do its work."""

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta


@dataclasses.dataclass(frozen=True)
class Program:
    """Something that has to be running until it is told to stop."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    port: int | None = None
    """Asked for `/readyz`. Without one, and without `probe`, to run is to be ready."""

    probe: Callable[[], Awaitable[bool]] | None = None
    before: Callable[[], None] | None = None
    """Done before every start."""

    stops_by: signal.Signals = signal.SIGTERM
    orphaned_by: signal.Signals = signal.SIGKILL
    """Sent by the kernel when the supervisor is gone."""

    grace: timedelta = timedelta(seconds=30)


async def is_ready(program: Program) -> bool:
    if program.probe is not None:
        return await program.probe()
    return program.port is None or await says_ready(program.port)


async def says_ready(port: int) -> bool:
    """Whether `/readyz` on this machine answers 200."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.LimitOverrunError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                head = f"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    return False
