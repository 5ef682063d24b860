"""`python -m lamps api | reconcile | all | migrate | name`, as production starts a service."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from kit import main
from kit.reconcile import first

from .app import Settings, create_app


async def loops(settings: Settings, stop: asyncio.Event) -> None:
    """Says in the work folder that it runs and that it ends; fails when a file there says so."""
    folder = settings.work_dir
    (folder / "running").touch()
    while not stop.is_set():
        if (folder / "fail").exists():
            raise RuntimeError("asked to fail")
        await first(stop, seconds=0.02)
    (folder / "ended").touch()


def name(settings: Settings, argv: Sequence[str]) -> int:
    Path(argv[0]).write_text(settings.host)
    return 7


if __name__ == "__main__":
    sys.exit(main.run("lamps", settings=Settings, create_app=create_app, loops=loops, commands={"name": name}))
