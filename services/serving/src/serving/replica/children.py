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


@dataclass
class _Asked:
    """A message to the child, whose answer is awaited."""

    op: str
    within: float
    """Seconds from its turn, which the child says, to its answer; before, they are those of silence."""
    deadline: asyncio.Timeout
    answer: "asyncio.Future[tuple[dict[str, Any], bytes]]"
    is_begun: bool = False

    def renew(self) -> None:
        if not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time() + self.within)


class Runner:
    """A child of a project. A task of its own starts it, and starts it again when it breaks off."""

    def __init__(self, limits: Limits, *, command: tuple[str, ...] = COMMAND) -> None:
        self._limits = limits
        self._command = command
        self._models: dict[str, dict[str, Any]] = {}
        self._loaded: set[str] = set()  # in this life of the child
        self._pending: dict[int, _Asked] = {}
        self._numbers = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._up = asyncio.Event()
        self._ending = asyncio.Event()
        self.is_stuck = False
        """Whether a load does not come to an end, while what was loaded before answers."""
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
        seconds = await self._load(model, order)
        self._models[model] = order
        return seconds

    async def _load(self, model: str, order: dict[str, Any]) -> float:
        if self.is_stuck:
            raise RunnerGone("The process that runs models loads none any more.")
        header, _ = await self._ask({**order, "op": "load", "model": model}, within=self._limits.load)
        self._loaded.add(model)
        return float(header["seconds"])

    def has(self, model: str) -> bool:
        """Whether it is loaded, or will be as soon as the child is started again."""
        return model in self._models

    async def predict(self, model: str, arrays: Arrays) -> Prediction:
        if model not in self._loaded:
            raise ModelNotReady("The process that runs this model is being started.", retry_after=timedelta(seconds=1))
        columns, parts = frames.columns_of(arrays)
        header = {"op": "predict", "model": model, "columns": columns}
        answer, body = await self._ask(header, parts, within=self._limits.predict)
        return frames.prediction_of(answer, body)

    def unload(self, model: str) -> None:
        """Have it dropped when its turn comes. Nobody waits for that."""
        self._models.pop(model, None)
        self._loaded.discard(model)
        if self._writer is not None:
            self._writer.write(frames.pack({"op": "unload", "model": model, "id": next(self._numbers)}))

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
        seconds = within.total_seconds()
        answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._pending[number] = _Asked(header["op"], seconds, deadline, answer)
                writer.write(frames.pack({**header, "id": number}, parts or ()))
                await writer.drain()
                return _checked(*await answer)
        except TimeoutError:
            self._give_up(number)
            raise RunnerGone(f"The model did not answer within {seconds:g} s.") from None
        except ConnectionError:
            raise RunnerGone("The process that runs this model broke off.") from None
        finally:
            self._pending.pop(number, None)

    def _give_up(self, late: int) -> None:
        """End a child that hangs, and with it all that waits for it; but not for a load while others answer."""
        if self._pending[late].op != "load" or not self._loaded:
            self._kill()
            return
        self.is_stuck = True
        for number, asked in self._pending.items():
            if number != late and asked.op == "load" and not asked.answer.done():
                asked.answer.set_exception(ConnectionResetError())  # its turn never comes

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
        self._up.set()
        async with asyncio.TaskGroup() as group:
            again = group.create_task(self._load_again())
            await self._hear(reader)
            again.cancel()

    async def _load_again(self) -> None:
        for model, order in list(self._models.items()):
            try:
                await self._load(model, order)
            except errors.Error as error:
                self._models.pop(model, None)  # lost: who needs it has to bring it again
                log.warning("model not loaded again", extra={"model": model[:100], "reason": error.detail})
            except asyncio.CancelledError:  # the child ended: loaded once more, it might end for that again
                self._models.pop(model, None)
                raise
            else:
                if model not in self._models:  # dropped meanwhile
                    self.unload(model)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, frames.FrameInvalid, ValueError):
            while True:
                header, body = frames.sizes(await reader.readexactly(frames.HEAD.size))
                whole = await reader.readexactly(header + body)
                said: dict[str, Any] = orjson.loads(whole[:header])
                asked = self._pending.get(said["id"])
                if asked is None or asked.answer.done():
                    continue
                for other in self._pending.values():
                    if other is asked or (other.op == asked.op and not other.is_begun):
                        other.renew()
                if "begun" in said:
                    asked.is_begun = True
                else:
                    asked.answer.set_result((said, whole[header:]))

    async def _bury(self) -> None:
        self._up.clear()
        self._loaded.clear()
        self.is_stuck = False
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None
        for asked in self._pending.values():
            if not asked.answer.done():
                asked.answer.set_exception(ConnectionResetError())
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

    @property
    def is_lost(self) -> bool:
        return not self._runner.has(self._model)

    def is_quick(self, rows: int) -> bool:
        return False

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        return await self._lane.predict(arrays, rows)

    async def _ask(self, arrays: Arrays) -> Prediction:
        return await self._runner.predict(self._model, arrays)

    async def close(self) -> None:
        await self._lane.drain()
        self._runner.unload(self._model)


class Runners:
    """The runner children of this process: one for each project that needs one.

    A model that did not come through its load gets a child of its own for the next one, which is kept if it does;
    so does whatever is to be loaded while a load in the project's child is stuck.
    """

    def __init__(self, limits: Limits, *, waiting: int, command: tuple[str, ...] = COMMAND) -> None:
        self._limits = limits
        self._waiting = waiting
        self._command = command
        self._of: dict[str, list[Runner]] = {}
        self._suspects: set[tuple[str, str]] = set()

    async def load(self, project: str, target: Target, path: Path) -> InChild:
        suspect = (project, target.file.digest)
        alone = suspect in self._suspects
        runner = self._fresh(project) if alone else self._shared(project)
        model = f"{target.file.digest} {next(_NAMES)}"
        order = {
            "path": str(path),
            "digest": target.file.digest,
            "signature": dict(target.signature),
            "example": [dict(row) for row in target.example[:1]],
        }
        try:
            await runner.load(model, order)
        except RunnerGone:
            self._suspects.add(suspect)
            raise
        finally:
            if alone and runner.is_empty:
                self._of[project].remove(runner)
                await runner.close()
        self._suspects.discard(suspect)
        return InChild(Signature.from_json(target.signature), runner, model, waiting=self._waiting)

    def _fresh(self, project: str) -> Runner:
        runner = Runner(self._limits, command=self._command)
        self._of.setdefault(project, []).append(runner)
        return runner

    def _shared(self, project: str) -> Runner:
        return next((it for it in self.of(project) if not it.is_stuck), None) or self._fresh(project)

    def of(self, project: str) -> list[Runner]:
        """The project's children."""
        return self._of.get(project, [])

    async def close_idle(self) -> None:
        """End the children that run no model any more."""
        for project, runners in list(self._of.items()):
            for runner in [runner for runner in runners if runner.is_empty]:
                runners.remove(runner)
                await runner.close()
            if not runners:
                del self._of[project]

    async def close(self) -> None:
        for runners in self._of.values():
            for runner in runners:
                await runner.close()
        self._of.clear()


_NAMES = itertools.count(1)
