"""Models in memory: loaded from verified bytes, warmed, and asked where their cost belongs.

A model that answers within a fraction of a millisecond is asked on the event loop; a thread would cost more than the
model. Everything slower goes through a lane to a thread, or to a child of its project: one lane for each deployment
that asks, and all of them in turns. In this process runs ONNX alone, if this platform has written it and it cannot
loop; whatever else there is may crash or hang, and does so in the child.
"""

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, TypeVarTuple

from kit.attestations import AttestationMissing, Policy, Trust
from models.onnx_models import onnx_model
from models.onnx_structure import unplain
from models.runners import Runner
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature, signature_of_json
from serving.domain.costs import Cost
from serving.domain.limits import Limits
from serving.domain.revisions import USER, Target
from serving.replica.children import ModelFailed, ModelTooHungry
from serving.replica.files import Files
from serving.replica.lanes import Lane, Meter, Overloaded, Queueing
from serving.replica.pace import Pace
from serving.replica.timing import cost_of
from serving.replica.turns import Turns
from serving.runner.runtimes import formats_here as formats_here
from serving.runner.runtimes import lacking
from serving.runner.warming import example_of, warm

log = logging.getLogger(__name__)
Given = TypeVarTuple("Given")
Made = TypeVar("Made")
ON_LOOP = 300e-6
"""Seconds of computing that a request may take on the event loop. A thread, and the way back, cost a third of that."""
FACTOR = 3
"""Bytes in memory for each of a file: the graph, the weights as the runtime lays them out, and room to answer in. Not
measured here, where whatever else the process does meanwhile would be a model's; what runs in a child is."""
AWAITING = 256
"""Requests that may wait for a model that comes back."""
NICER = 5
"""Than the loop are threads that models are asked on: the loop has three times their part of a core that both want."""


class Resident(Protocol):
    """A model that can be asked."""

    signature: AnySignature
    pace: Pace | None
    """Of the loop that it is asked on when it is quick."""
    bytes: int
    """Of memory, as far as that is known."""

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer any more, and never will: it has to be loaded anew."""
        ...

    def is_quick(self, rows: int) -> bool:
        """Whether it answers so soon that nothing else can happen meanwhile."""
        ...

    def lane(self, limits: Limits) -> Lane:
        """A queue in front of it, for one that asks."""
        ...

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        """The answers, one for each row, of what is quick or has waited in a lane."""
        ...

    async def close(self) -> None:
        """Give back what it needs; nobody asks it any more."""
        ...


class Children(Protocol):
    """Loads what may not run in this process, in a child of the project."""

    async def load(self, project: str, target: Target, path: Path, memory: int | None) -> Resident: ...


class Asleep:
    """A model that was given up for others. Whoever asks it waits until it is back."""

    pace: Pace | None = None
    bytes = 0
    is_lost = False

    def __init__(self, signature: AnySignature, ask: Callable[[Arrays, int], Awaitable[Prediction]]) -> None:
        self.signature = signature
        self._ask = ask
        self._waiting = 0

    def is_quick(self, rows: int) -> bool:
        return False

    def lane(self, limits: Limits) -> Lane:
        raise NotImplementedError("Who asks it waits for it, and then in the lane of the model itself.")

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        if self._waiting >= AWAITING:
            raise Overloaded(f"{AWAITING} requests wait for this model.", retry_after=timedelta(seconds=1))
        self._waiting += 1
        try:
            return await self._ask(arrays, rows)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """It has nothing."""


class Pool:
    """Threads that are gone when it is closed, but for those that hang."""

    def __init__(self, count: int, name: str, begins: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begins)
        self._running: set[Future[Any]] = set()

    async def run(self, work: Callable[[*Given], Made], *given: *Given) -> Made:
        """What `work` makes, on a thread."""
        future = self._pool.submit(work, *given)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Nobody waits for a model that hangs. Idle threads end now, and not somewhere in what is done next."""
        self._pool.shutdown(wait=not self._running, cancel_futures=True)


class Threads:
    """Where models of this process are asked that take too long for the loop, and the loop for those that do not."""

    def __init__(self, count: int, queueing: Queueing) -> None:
        self.queueing = queueing
        self.turns = Turns(count)
        self.pace = Pace(queueing.patience)
        self._pool = Pool(count, "model", give_way)

    async def run(self, work: Callable[[Arrays], Prediction], arrays: Arrays) -> Prediction:
        """What `work` makes of them, on a thread."""
        return await self._pool.run(work, arrays)

    def close(self) -> None:
        self._pool.close()


def give_way() -> None:
    """Have the calling thread wait for the loop where they share a core, and not the loop for it.

    A loop that falls behind refuses late, and what is refused late was waited for in vain.
    """
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICER)


class Here:
    """A model in this process."""

    def __init__(self, model: Runner, cost: Cost, threads: Threads, size: int = 0) -> None:
        """`size` is the bytes of memory that it takes."""
        self.bytes = size
        self.signature: AnySignature = model.signature
        self.cost = cost
        self.pace: Pace | None = threads.pace
        self._model = model
        self._threads = threads

    @property
    def is_lost(self) -> bool:
        return False

    def is_quick(self, rows: int) -> bool:
        return self.cost.of(rows) <= ON_LOOP

    def lane(self, limits: Limits) -> Lane:
        meter = Meter()

        async def run(arrays: Arrays) -> Prediction:
            return await self._threads.run(partial(meter.measured, self._model.predict), arrays)

        return self._threads.queueing.lane(run, self.cost, self._threads.turns, limits, self.signature.joins, meter)

    def answer(self, arrays: Arrays) -> Prediction:
        """The answers, here and now."""
        return self._model.predict(arrays)

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        if self.is_quick(rows):
            return self._model.predict(arrays)
        return await self._on_thread(arrays)

    async def _on_thread(self, arrays: Arrays) -> Prediction:
        return await self._threads.run(self._model.predict, arrays)

    async def close(self) -> None:
        """The last request drops the model with its last reference."""


class Loader:
    """Makes residents of targets."""

    def __init__(
        self,
        files: Files,
        children: Children,
        *,
        queueing: Queueing,
        threads: int,
        formats: Collection[str] | None = None,
        trust: Callable[[], Trust] = Trust,
    ) -> None:
        """`formats` are those that this installation can load; by default what is installed says it.

        `trust` says who is believed, each time that something is loaded: keys come and go.
        """
        self._trust = trust
        self._formats = formats_here() if formats is None else formats
        self._files = files
        self._children = children
        self._threads = Threads(threads, queueing)
        # Apart: what loads takes seconds, and those who ask must not wait behind it.
        self._loading = Pool(threads, "load")

    async def load(self, project: str, target: Target, memory: int | None = None) -> Resident:
        """A model that has answered its own example, and may take so many bytes of memory.

        Raises:
            ModelTooHungry: it needs more than that.
            AttestationMissing: nobody trusted has signed it, and the project requires that.
            errors.Corrupt: the bytes are not what was registered, are no model, or none that can be loaded here.
            errors.Unavailable: they cannot be had just now.
        """
        if target.file.format not in self._formats:
            raise ModelFailed(lacking(target.file.format))
        await self._loading.run(self._believe, project, target)
        content = await self._files.read(project, target)
        if target.file.format == "onnx" and target.file.origin != USER:
            if memory is not None and bytes_of(target) > memory:
                detail = f"The model needs about {bytes_of(target)} bytes of memory, and may have {memory}."
                raise ModelTooHungry(detail)
            here = await self._loading.run(self._onnx, content, target)
            if here is not None:
                return here
        return await self._children.load(project, target, self._files.path(target.file.digest), memory)

    def _believe(self, project: str, target: Target) -> None:
        trust = self._trust()
        policy = trust.of(project)
        if policy is Policy.OFF or trust.signers(target.attestations, target.digest, target.file.digest):
            return
        detail = f"Nobody who is trusted here has signed {target.reference}."
        if policy is Policy.REQUIRE:
            raise AttestationMissing(detail)
        log.warning("not attested", extra={"project": project, "model": target.reference})

    def _onnx(self, content: bytes, target: Target) -> Here | None:
        if why := unplain(content):
            log.info("model runs in a child", extra={"model": target.reference, "reason": why})
            return None
        signature = signature_of_json(target.signature)
        model = onnx_model(content, signature)
        one = warm(model, target)
        return Here(model, cost_of(model, example_of(signature, target), one), self._threads, bytes_of(target))

    def close(self) -> None:
        """Of what hangs nothing is waited for."""
        self._threads.close()
        self._loading.close()


def bytes_of(target: Target) -> int:
    """What its model is believed to take in memory."""
    return FACTOR * target.file.size


def identity_of(project: str, target: Target, memory: int | None = None) -> str:
    """What tells two residents apart: deployments that serve the same version, within the same memory, share one."""
    file = target.file
    made_of = [file.format, file.origin, file.digest, target.signature, target.architecture]
    return json.dumps([project, *made_of, memory], sort_keys=True)
