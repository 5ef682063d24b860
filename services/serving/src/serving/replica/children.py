"""Runner children: models that need scikit-learn run in a process of their project, which may crash or hang alone."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from kit import errors
from kit.reconcile import first
from models.signature import Arrays, Prediction, Signature
from serving.domain.revisions import Target
from serving.replica.lanes import Lane
from serving.runner import frames

log = logging.getLogger(__name__)
FIRST, LONGEST = 0.5, 30.0
"""Seconds before a child that broke off is started again; they double."""
HEALTHY = 60.0
"""Seconds after which a child is believed to be well, and the next break is a first one."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "LANG": "C.UTF-8"}
COMMAND = (sys.executable, "-m", "serving.runner")


class ModelNotReady(errors.Unavailable):
    """The model is not loaded here at this moment."""


class RunnerGone(errors.Unavailable):
    """The process that runs the model broke off, or did not answer in time."""


class ModelFailed(errors.Corrupt):
    """The model cannot be loaded, or cannot answer."""


class ModelTooHungry(errors.Corrupt):
    """The model needs more memory than it may have."""


FAILURES: dict[str, type[errors.Error]] = {
    "absent": ModelNotReady,
    "memory": ModelTooHungry,
    "corrupt": ModelFailed,
    "failed": ModelFailed,
}


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    memory: int
    load: timedelta
    predict: timedelta


class Runner:
    """The child of one project. A task of its own starts it, and starts it again when it breaks off."""

    def __init__(self, limits: Limits, *, command: tuple[str, ...] = COMMAND) -> None:
        self._limits = limits
        self._command = command
        self._models: dict[str, dict[str, Any]] = {}
        self._pending: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._numbers = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._up = asyncio.Event()
        self._ending = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def load(self, model: str, order: dict[str, Any]) -> float:
        """Load a model, now and whenever the child is started anew. The seconds that one row takes it."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(self._limits.load.total_seconds()):
                await self._up.wait()
        except TimeoutError:
            raise RunnerGone("The process that runs models does not start.") from None
        header, _ = await self._ask({**order, "op": "load", "model": model}, within=self._limits.load)
        self._models[model] = order
        return float(header["seconds"])

    async def predict(self, model: str, arrays: Arrays) -> Prediction:
        if not self._up.is_set():
            # Asked while it starts, it would seem to hang, and be ended for that again and again.
            raise ModelNotReady("The process that runs this model is being started.", retry_after=timedelta(seconds=1))
        columns, parts = frames.columns_of(arrays)
        header = {"op": "predict", "model": model, "columns": columns}
        answer, body = await self._ask(header, parts, within=self._limits.predict)
        return frames.prediction_of(answer, body)

    async def unload(self, model: str) -> None:
        self._models.pop(model, None)
        if not self._up.is_set():
            return
        with contextlib.suppress(errors.Error):
            await self._ask({"op": "unload", "model": model}, within=self._limits.predict)

    @property
    def is_empty(self) -> bool:
        return not self._models

    async def close(self) -> None:
        if self._keeper is not None:
            self._ending.set()
            self._kill()
            await self._keeper

    async def _ask(
        self, header: dict[str, Any], parts: list[bytes] | None = None, *, within: timedelta
    ) -> tuple[dict[str, Any], bytes]:
        writer = self._writer
        if writer is None:
            raise RunnerGone("The process that runs this model broke off.", retry_after=timedelta(seconds=1))
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            async with asyncio.timeout(within.total_seconds()):
                writer.write(frames.pack({**header, "id": number}, parts or ()))
                await writer.drain()
                return _checked(*await answer)
        except TimeoutError:
            self._kill()  # it hangs, and with it all that waits for it
            raise RunnerGone(f"The model did not answer within {within.total_seconds():g} s.") from None
        except ConnectionError:
            raise RunnerGone("The process that runs this model broke off.") from None
        finally:
            self._pending.pop(number, None)

    async def _keep(self) -> None:
        """Start the child, see it end, start it again."""
        loop = asyncio.get_running_loop()
        pause = FIRST
        while not self._ending.is_set():
            began = loop.time()
            try:
                await self._live()
            except OSError:
                log.exception("runner not started")
            finally:
                await self._bury()
            if loop.time() - began > HEALTHY:
                pause = FIRST
            if not self._ending.is_set():
                log.warning("runner broke off", extra={"again_in": pause, "models": len(self._models)})
                await first(self._ending, seconds=pause)
            pause = min(2 * pause, LONGEST)

    async def _live(self) -> None:
        """One life of the child: until it ends, whatever ends it."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    str(self._limits.memory),
                    pass_fds=[theirs.fileno()],
                    env={"PATH": os.environ.get("PATH", ""), **ENVIRONMENT},
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        reader, self._writer = await asyncio.open_connection(sock=ours)
        if self._ending.is_set():
            return
        async with asyncio.TaskGroup() as group:
            again = group.create_task(self._load_again())
            await self._hear(reader)
            again.cancel()

    async def _load_again(self) -> None:
        for model, order in list(self._models.items()):
            try:
                await self._ask({**order, "op": "load", "model": model}, within=self._limits.load)
            except errors.Error as error:
                log.warning("model not loaded again", extra={"model": model[:100], "reason": error.detail})
        self._up.set()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, frames.FrameInvalid, ValueError):
            while True:
                header, body = frames.sizes(await reader.readexactly(frames.HEAD.size))
                whole = await reader.readexactly(header + body)
                said: dict[str, Any] = orjson.loads(whole[:header])
                answer = self._pending.get(said["id"])
                if answer is not None and not answer.done():
                    answer.set_result((said, whole[header:]))

    async def _bury(self) -> None:
        self._up.clear()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())
        self._kill()
        if self._process is not None:
            await self._process.wait()
            self._process = None

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _checked(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    if header["ok"]:
        return header, body
    raise FAILURES[header["kind"]](header["detail"])


class InChild:
    """A model in a runner child."""

    def __init__(self, signature: Signature, runner: Runner, model: str, *, waiting: int) -> None:
        self.signature = signature
        self._runner = runner
        self._model = model
        self._lane = Lane(self._ask, waiting=waiting)

    def is_quick(self, rows: int) -> bool:
        return False

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        return await self._lane.predict(arrays, rows)

    async def _ask(self, arrays: Arrays) -> Prediction:
        return await self._runner.predict(self._model, arrays)

    async def close(self) -> None:
        await self._lane.drain()
        await self._runner.unload(self._model)


class Runners:
    """The runner children of this process, one for each project that needs one."""

    def __init__(self, limits: Limits, *, waiting: int, command: tuple[str, ...] = COMMAND) -> None:
        self._limits = limits
        self._waiting = waiting
        self._command = command
        self._of: dict[str, Runner] = {}

    async def load(self, project: str, target: Target, path: Path) -> InChild:
        runner = self._of.setdefault(project, Runner(self._limits, command=self._command))
        model = f"{target.file.digest} {next(_NAMES)}"
        order = {
            "path": str(path),
            "digest": target.file.digest,
            "signature": dict(target.signature),
            "example": [dict(row) for row in target.example[:1]],
        }
        await runner.load(model, order)
        return InChild(Signature.from_json(target.signature), runner, model, waiting=self._waiting)

    def of(self, project: str) -> Runner | None:
        """The project's child, if it has one."""
        return self._of.get(project)

    async def close_idle(self) -> None:
        """End the children that run no model any more."""
        for project in [project for project, runner in self._of.items() if runner.is_empty]:
            await self._of.pop(project).close()

    async def close(self) -> None:
        for runner in self._of.values():
            await runner.close()
        self._of.clear()


_NAMES = itertools.count(1)
