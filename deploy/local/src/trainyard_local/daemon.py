"""python -m trainyard_local.daemon HOME PORT: the process that runs the suite. `up` starts it.

It holds the home's lock, starts everything, and stops everything.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard_local import logs, suite
from trainyard_local.board import Board, Phase
from trainyard_local.home import Home
from trainyard_local.supervisor import Supervisor

log = logging.getLogger(__name__)


def run(home: Home, port: int) -> int:
    """Until SIGTERM. Where another process has the home already there is nothing to do."""
    os.umask(0o077)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    with home.locked() as mine:
        return asyncio.run(_run(home, port)) if mine else 0


async def _run(home: Home, port: int) -> int:
    stopping = asyncio.Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sent, stopping.set)
    board = Board(home.state, port)
    async with asyncio.TaskGroup() as group:
        rotation = group.create_task(logs.bound(home.logs))
        supervisor = Supervisor(group, board, home.logs)
        failure = await _until_stopped(home, port, supervisor, board, stopping)
        await suite.stop(supervisor, board)
        rotation.cancel()
    board.say(failure or "stopped", Phase.FAILED if failure else Phase.DOWN)
    return 1 if failure else 0


async def _until_stopped(
    home: Home, port: int, supervisor: Supervisor, board: Board, stopping: asyncio.Event
) -> str | None:
    """Why it could not start, if so."""
    board.write()
    starting = asyncio.create_task(_start(home, port, supervisor, board))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()  # does nothing where it is done
    failure = (await asyncio.gather(starting, return_exceptions=True))[0]
    if isinstance(failure, Exception):
        stopped.cancel()
        log.error("could not start", exc_info=failure)
        return reason_of(failure)
    await stopped
    return None


async def _start(home: Home, port: int, supervisor: Supervisor, board: Board) -> None:
    await suite.start(suite.suite_of(home, port, os.environ), supervisor, board)
    board.say("up", Phase.UP)


def reason_of(failure: Exception) -> str:
    """In one sentence where we know it."""
    first = failure
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return str(first) if isinstance(first, TrainyardError) else f"{type(first).__name__}: {first}"


if __name__ == "__main__":
    sys.exit(run(Home(Path(sys.argv[1])), int(sys.argv[2])))
