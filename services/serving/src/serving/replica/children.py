"""Runner children: models of a project run in a process of their own, which may crash or hang alone."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from kit import errors
from kit.reconcile import first
from models.signature import Arrays, Prediction
from models.tensor_rows import TensorsInvalid
from serving.replica.turns import Turns
from serving.runner import frames

log = logging.getLogger(__name__)
FIRST, LONGEST = 0.5, 30.0
"""Seconds before a child that broke off is started again; they double."""
STARVING = 3
"""Answers in a row that found no memory, after which what has leaked is got back by a new process."""
HEALTHY = 60.0
"""Seconds after which a child is believed to be well, and the next break is a first one."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "LANG": "C.UTF-8"}
COMMAND = (sys.executable, "-P", "-m", "serving.runner")


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
    "invalid": TensorsInvalid,
}


@dataclass(frozen=True)
class ChildLimits:
    """What a child may use."""

    memory: int
    load: timedelta
    predict: timedelta
    models: Path | None = None
    """The folder of models' files, out of which it can read. None: it can read whatever its user can."""


@dataclass
class _Asked:
    """A message to the child, whose answer is awaited."""

    op: str
    model: str
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

    def __init__(
        self,
        limits: ChildLimits,
        *,
        blame: Callable[[str], None] = lambda model: None,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """`blame` is told of a model over which the child ended while it had others: it is lost, they are not."""
        self._blame = blame
        self._hungry = 0
        self.is_shared = True
        """Whether other models may come too."""
        self._limits = limits
        self._command = command
        self.turns = Turns(1)
        """A child answers one at a time: whose model is next."""
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
        try:
            answer, body = await self._ask(header, parts, within=self._limits.predict)
        except ModelTooHungry:
            self._hunger()
            raise
        self._hungry = 0
        return frames.prediction_of(answer, body)

    def _hunger(self) -> None:
        """One request may ask for too much; when the next ones find no memory either, it has leaked away."""
        self._hungry += 1
        if self._hungry >= STARVING:
            log.error("runner ended: its memory is used up", extra={"bytes": self._limits.memory})
            self._hungry = 0
            self._kill()

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
                self._pending[number] = _Asked(header["op"], header["model"], seconds, deadline, answer)
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
            self._accuse(self._pending[late])
            self._kill()
            return
        self.is_stuck = True
        for number, asked in self._pending.items():
            if number != late and asked.op == "load" and not asked.answer.done():
                asked.answer.set_exception(ConnectionResetError())  # its turn never comes

    def _accuse(self, asked: _Asked) -> None:
        if asked.op == "predict" and len(self._models) > 1 and self._models.pop(asked.model, None) is not None:
            log.warning("runner ended over a model", extra={"model": asked.model[:100]})
            self._blame(asked.model)

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
                    *([] if self._limits.models is None else [str(self._limits.models)]),
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
        # What it says may be what a stranger's model makes it say: nonsense is the end of this child, and of no other.
        nonsense = (frames.FrameInvalid, ValueError, KeyError, TypeError)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, *nonsense):
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
                if asked.is_begun and not self._ending.is_set():
                    self._accuse(asked)
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
    raise FAILURES[header["kind"]](header["detail"], errors=header.get("places", ()))
