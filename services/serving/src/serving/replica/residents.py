"""Models in memory: loaded from verified bytes, warmed, and asked where their cost belongs.

A model that answers within a fraction of a millisecond is asked on the event loop; a thread would cost more than the
model. Everything slower goes through a lane to a thread, or to the child that runs what needs scikit-learn.
"""

import asyncio
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from models.onnx_models import OnnxModel
from models.runners import Runner
from models.signature import Arrays, Prediction, Signature
from serving.domain.revisions import Target
from serving.replica.children import ModelFailed
from serving.replica.files import Files
from serving.replica.lanes import Lane
from serving.runner.warming import warm

ON_LOOP = 200e-6
"""Seconds of computing that a request may take on the event loop."""


class Resident(Protocol):
    """A model that can be asked."""

    signature: Signature

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer any more, and never will: it has to be loaded anew."""
        ...

    def is_quick(self, rows: int) -> bool:
        """Whether it answers so soon that nothing else can happen meanwhile."""
        ...

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        """The answers, one for each row."""
        ...

    async def close(self) -> None:
        """Give back what it needs; nobody asks it any more."""
        ...


class Children(Protocol):
    """Loads models that need scikit-learn, in a child of the project."""

    async def load(self, project: str, target: Target, path: Path) -> Resident: ...


class Here:
    """A model in this process."""

    def __init__(self, model: Runner, cost: float, pool: ThreadPoolExecutor, *, waiting: int) -> None:
        """`cost` is the seconds that one row takes."""
        self.signature = model.signature
        self.cost = cost
        self._model = model
        self._pool = pool
        self._lane = Lane(self._on_thread, waiting=waiting)

    @property
    def is_lost(self) -> bool:
        return False

    def is_quick(self, rows: int) -> bool:
        return self.cost * rows <= ON_LOOP

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        if self.is_quick(rows):
            return self._model.predict(arrays)
        return await self._lane.predict(arrays, rows)

    async def _on_thread(self, arrays: Arrays) -> Prediction:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._model.predict, arrays)

    async def close(self) -> None:
        """The last request drops the model with its last reference."""


class Loader:
    """Makes residents of targets."""

    def __init__(
        self,
        files: Files,
        children: Children,
        *,
        waiting: int,
        threads: int,
        formats: Collection[str] | None = None,
    ) -> None:
        """`formats` are those that this installation can load; by default what is installed says it."""
        self._formats = formats_here() if formats is None else formats
        self._files = files
        self._children = children
        self._waiting = waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        # Apart: what loads takes seconds, and those who ask must not wait behind it.
        self._loading = ThreadPoolExecutor(threads, thread_name_prefix="load")

    async def load(self, project: str, target: Target) -> Resident:
        """A model that has answered its own example.

        Raises:
            errors.Corrupt: the bytes are not what was registered, are no model, or none that can be loaded here.
            errors.Unavailable: they cannot be had just now.
        """
        if target.file.format not in self._formats:
            raise ModelFailed(
                f"This server loads {', '.join(self._formats)} alone, and this version has no exact ONNX twin. "
                f"Serve it where scikit-learn is installed too: the image `serving`, not `serving-onnx`."
            )
        content = await self._files.read(project, target)
        if target.file.format != "onnx":
            return await self._children.load(project, target, self._files.path(target.file.digest))
        return await asyncio.get_running_loop().run_in_executor(self._loading, self._onnx, content, target)

    def _onnx(self, content: bytes, target: Target) -> Here:
        signature = Signature.from_json(target.signature)
        model = OnnxModel(content, signature)
        return Here(model, warm(model, target), self._pool, waiting=self._waiting)

    def close(self) -> None:
        """Nobody waits for a model that hangs."""
        for pool in (self._pool, self._loading):
            pool.shutdown(wait=False, cancel_futures=True)


def formats_here() -> tuple[str, ...]:
    """What the image `serving-onnx` leaves out, and a full one has."""
    return ("onnx",) if find_spec("skops") is None else ("onnx", "skops")


def identity_of(project: str, target: Target) -> str:
    """What tells two residents apart: deployments that serve the same version share one."""
    return json.dumps([project, target.file.digest, target.signature], sort_keys=True)
