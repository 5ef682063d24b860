"""Models in runner children: one child for each project that needs one, and what is suspect in one of its own."""

import functools
import itertools
import os
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from models.signature import Arrays, ModelOutputInvalid, Prediction
from models.tensor_signature import AnySignature, TensorSignature, signature_of_json
from serving.domain.costs import Cost
from serving.domain.limits import Limits
from serving.domain.revisions import Target
from serving.replica.children import COMMAND, ChildLimits, Runner, RunnerGone
from serving.replica.lanes import Lane, Queueing
from serving.replica.pace import Pace
from serving.replica.timing import cost_beside
from serving.runner.warming import example_of

ITSELF = 384 << 20
"""Bytes that a child needs for itself: the interpreter, NumPy, scikit-learn and the stacks of its threads."""


class InChild:
    """A model in a runner child."""

    pace: Pace | None = None  # it is never asked on the loop

    def __init__(
        self, signature: AnySignature, runner: Runner, model: str, cost: Cost, queueing: Queueing, size: int
    ) -> None:
        """`size` is the bytes of memory that it takes."""
        self.signature = signature
        self.bytes = size
        self._runner = runner
        self._model = model
        self._cost = cost
        self._queueing = queueing
        self._lanes: weakref.WeakSet[Lane] = weakref.WeakSet()

    @property
    def is_lost(self) -> bool:
        return not self._runner.has(self._model)

    def is_quick(self, rows: int) -> bool:
        return False

    def lane(self, limits: Limits) -> Lane:
        lane = self._queueing.lane(self._ask, self._cost, self._runner.turns, limits, self.signature.joins)
        self._lanes.add(lane)
        return lane

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        return await self._ask(arrays)

    async def _ask(self, arrays: Arrays) -> Prediction:
        prediction = await self._runner.predict(self._model, arrays)
        rows = self.signature.rows_in(arrays)
        if isinstance(self.signature, TensorSignature):
            # Said once more: what runs there may be anybody's, and may say anything.
            return self.signature.prediction_of(prediction.tensors or {}, rows)
        if prediction.tensors is not None or len(prediction.values) != rows:
            raise ModelOutputInvalid("The model has not as many answers as there are rows.")
        return prediction

    async def close(self) -> None:
        for lane in list(self._lanes):
            await lane.drain()
        self._runner.unload(self._model)


class Runners:
    """The runner children of this process: one for each project that needs one.

    A model that did not come through its load gets a child of its own for the next one, which is kept if it does; so
    does whatever is to be loaded while a load in the project's child is stuck, what a child broke off or hung with that
    has others too, and what may take no more than so much memory.
    """

    def __init__(self, limits: ChildLimits, *, queueing: Queueing, command: tuple[str, ...] = COMMAND) -> None:
        self._limits = limits
        self._queueing = queueing
        self._command = command
        self._of: dict[str, list[Runner]] = {}
        self._suspects: set[tuple[str, str]] = set()
        self._blamed: set[tuple[str, str]] = set()

    async def load(self, project: str, target: Target, path: Path, memory: int | None = None) -> InChild:
        """A warm model, which may take so many bytes of memory.

        Raises:
            RunnerGone: the child broke off over it, or did not answer in time.
            ModelFailed, ModelTooHungry: it cannot be loaded.
        """
        suspect = (project, target.file.digest)
        alone = suspect in self._suspects or suspect in self._blamed or memory is not None
        runner = self._fresh(project, memory) if alone else self._shared(project)
        runner.is_shared = runner.is_shared and suspect not in self._blamed
        before = resident_bytes(runner.pid)
        model = f"{target.file.digest} {next(_NAMES)}"
        try:
            one = await runner.load(model, target.order(path))
            signature = signature_of_json(target.signature)
            ask = functools.partial(runner.predict, model)
            cost = await cost_beside(ask, signature, example_of(signature, target), one)
        except RunnerGone:
            self._suspects.add(suspect)
            raise
        finally:
            if alone and runner.is_empty:
                self._of[project].remove(runner)
                await runner.close()
        self._suspects.discard(suspect)
        size = max(resident_bytes(runner.pid) - before, target.file.size)
        return InChild(signature, runner, model, cost, self._queueing, size)

    def _fresh(self, project: str, memory: int | None = None) -> Runner:
        limits = self._limits
        if memory is not None:
            limits = replace(limits, memory=min(limits.memory, ITSELF + memory))

        def blame(model: str) -> None:
            self._blamed.add((project, model.partition(" ")[0]))

        runner = Runner(limits, blame=blame, command=self._command)
        runner.is_shared = memory is None
        self._of.setdefault(project, []).append(runner)
        return runner

    def _shared(self, project: str) -> Runner:
        able = (it for it in self.of(project) if it.is_shared and not it.is_stuck)
        return next(able, None) or self._fresh(project)

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


def resident_bytes(pid: int | None) -> int:
    """What a process has in memory; 0 of one that is not there, or where nobody can say."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
