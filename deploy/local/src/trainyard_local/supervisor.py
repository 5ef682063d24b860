"""Keeps programs running: one task for each, started again when it ends, ended with this process."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from trainyard_local import logs
from trainyard_local.board import Board, Entry
from trainyard_local.home import Refused
from trainyard_local.leash import dies_with_parent
from trainyard_local.programs import Program, is_ready

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Supervisor:
    """Programs by their names. Readiness is asked often until it is there, then now and then for the board."""

    def __init__(self, group: asyncio.TaskGroup, board: Board, folder: Path) -> None:
        self._group = group
        self._board = board
        self._folder = folder
        self._kept: dict[str, _Kept] = {}

    def start(self, program: Program) -> None:
        kept = _Kept(program, self._board, self._folder)
        self._kept[program.name] = kept
        self._group.create_task(kept.keep(), name=program.name)

    async def ready(self, *names: str) -> None:
        for name in names:
            await self._kept[name].ready.wait()

    async def stop(self, *names: str) -> None:
        """Tell all of them at once, and wait for all of them."""
        async with asyncio.TaskGroup() as group:
            for name in names:
                if name in self._kept:
                    group.create_task(self._kept[name].stop())


class _Kept:
    def __init__(self, program: Program, board: Board, folder: Path) -> None:
        self.ready = asyncio.Event()
        self._program = program
        self._board = board
        self._log = folder / f"{program.name}.log"
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._entry = board.programs[program.name] = Entry(port=program.port)

    async def keep(self) -> None:
        pause = SHORTEST_PAUSE
        while not self._stopping.is_set():
            # What has been ready is started again at once; what never gets there must not burn the processor.
            pause = SHORTEST_PAUSE if await self._run_once() else min(pause * 2, LONGEST_PAUSE)
            if not self._stopping.is_set():
                self._entry.restarts += 1
                self._board.write()
                await _within(self._stopping.wait(), pause)
        self._ended.set()

    async def stop(self) -> None:
        self._stopping.set()
        if self._process is not None:
            _send(self._process, self._program.stops_by)
        if not await _within(self._ended.wait(), self._program.grace.total_seconds()):
            if self._process is not None:
                _send(self._process, signal.SIGKILL)
            await self._ended.wait()

    async def _run_once(self) -> bool:
        """Start it and wait for its end. Whether it was ready at some time."""
        if self._program.before is not None:
            self._program.before()
        try:
            self._process = await spawn(self._program.argv, self._program.env, self._log, self._program.orphaned_by)
        except OSError:  # no memory, no files, a full disk: whatever it is, the others run on
            log.exception("could not start", extra={"program": self._program.name})
            return False
        self._entry.pid = self._process.pid
        self._board.write()
        if self._stopping.is_set():  # said while it was being started
            _send(self._process, self._program.stops_by)
        watch = asyncio.create_task(self._watch())
        await self._process.wait()
        watch.cancel()
        was_ready, self._process = self.ready.is_set(), None
        self.ready.clear()
        self._entry.pid, self._entry.ready = None, False
        self._board.write()
        return was_ready

    async def _watch(self) -> None:
        while True:
            ready = await is_ready(self._program)
            if ready:
                self.ready.set()
            if ready != self._entry.ready:
                self._entry.ready = ready
                self._board.write()
            await asyncio.sleep(2.0 if ready else 0.1)


async def spawn(
    argv: tuple[str, ...], env: Mapping[str, str], output: Path, orphaned_by: signal.Signals = signal.SIGKILL
) -> asyncio.subprocess.Process:
    """A child that ends with this process."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            preexec_fn=dies_with_parent(orphaned_by),
        )
    finally:
        os.close(file)


async def run_once(argv: tuple[str, ...], env: Mapping[str, str], output: Path, *, within: timedelta) -> None:
    """Run something to its end; a bad end is told with its last words."""
    process = await spawn(argv, env, output)
    try:
        if not await _within(process.wait(), within.total_seconds()) or process.returncode != 0:
            raise Refused(f"{output.stem} failed ({process.returncode}). The end of {output}:\n{logs.tail(output)}")
    finally:
        if process.returncode is None:
            _send(process, signal.SIGKILL)
            await process.wait()


def _send(process: asyncio.subprocess.Process, sent: signal.Signals) -> None:
    if process.returncode is None:
        try:
            process.send_signal(sent)
        except ProcessLookupError:
            return


async def _within(work: Coroutine[Any, Any, object], seconds: float) -> bool:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True
