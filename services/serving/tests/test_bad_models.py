"""A library that crashes, hangs, eats memory or answers nonsense, for each format: it harms its child and nobody else.

The libraries are stand-ins that do so for real, in the place of those that load the format.
"""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from processes import peak_of
from registries import digest_of
from servings_at_work import LONG
from targets import target
from test_runtimes import BATCHED, LINEAR, weights

from kit import errors
from kit.testing import eventually
from models.tensor_signature import TensorSignature
from serving.domain.revisions import File, Target
from serving.replica.children import ChildLimits, ModelFailed, ModelTooHungry, RunnerGone
from serving.replica.lanes import Queueing
from serving.replica.runners import InChild, Runners
from serving.runner.runtimes import RUNTIMES

LIMITS = ChildLimits(memory=1 << 30, load=timedelta(seconds=30), predict=timedelta(seconds=2))
GOOD, CRASHES, ENDS, HANGS, GROWS, LEAKS, RAISES, NAN, SHORT, LARGE = range(10)
"""What the first number of a request makes the library do."""
LIBRARY = """
import ctypes, os, sys
import numpy as np
from serving.runner import __main__ as runner, runtimes
hoard, linear = [], runtimes.RUNTIMES["safetensors"]
def hangs():
    while True:
        pass
def grows():
    mine = []
    while True:
        mine.append(np.ones(1 << 22))
does = {1: lambda: ctypes.string_at(0), 2: lambda: os._exit(0), 3: hangs, 4: grows}
class Library:
    def __init__(self, loading):
        self.model, self.signature = linear(loading), loading.signature
    def predict(self, arrays):
        kind = int(arrays["x"].ravel()[0])
        if kind in does:
            does[kind]()
        if kind == 5:
            hoard.append(np.ones(1 << 25))
        if kind == 6:
            raise SystemError("nothing anybody knows")
        made = self.model.predict(arrays)
        y = made.tensors["y"]
        said = {7: y * np.nan, 8: y[:0], 9: np.ones((1 << 10, 1 << 10), np.float32)}.get(kind, y)
        return type(made)(made.values, made.scores, {"y": said})
runtimes.RUNTIMES, runtimes.NEEDS = dict.fromkeys(runtimes.RUNTIMES, Library), {}
sys.exit(runner.main(sys.argv[1:]))
"""


async def ask(model: InChild, kind: int, rows: int = 1) -> list[list[float]]:
    """Twice what was asked."""
    asked = np.full((rows, 2), kind, np.float32)
    said = await model.predict({"x": asked}, rows)
    assert isinstance(model.signature, TensorSignature)
    found: list[list[float]] = model.signature.tensors_of(said)["y"].tolist()
    return found


async def answers(model: InChild) -> bool:
    try:
        return await ask(model, GOOD) == [[0, 0]]
    except errors.Unavailable:
        return False


def described(folder: Path, name: str) -> tuple[Target, Path]:
    content = weights()
    path = folder / digest_of(content)
    if not path.exists():  # what is mapped by those that answer stays as it is
        path.write_bytes(content)
    file = File(name, "model", digest_of(content), len(content), "user")
    return target(file=file, signature=BATCHED, example=(), architecture=LINEAR), path


async def loaded(runners: Runners, target: Target, path: Path) -> InChild:
    """As a replica does it: again while the child that is gone is not back."""
    found: list[InChild] = []

    async def is_loaded() -> bool:
        with suppress(errors.Unavailable):
            found.append(await runners.load("demo", target, path))
        return bool(found)

    await eventually(is_loaded, LONG)
    return found[0]


@pytest.mark.parametrize("name", RUNTIMES)
async def test_a_library_harms_itself_alone(tmp_path: Path, name: str) -> None:
    runners = Runners(LIMITS, queueing=Queueing(10), command=(sys.executable, "-c", LIBRARY))
    over = asyncio.Event()
    served = 0

    async def neighbour(model: InChild) -> None:
        """Asks all the while, and is always answered."""
        nonlocal served
        while not over.is_set():
            assert await ask(model, 0, 3) == [[0, 0]] * 3
            served += 1
            await asyncio.sleep(0)

    try:
        other = await runners.load("other", *described(tmp_path, name))
        [theirs] = runners.of("other")
        pid, before = theirs.pid, peak_of("self")
        asks = asyncio.create_task(neighbour(other))
        for kind, kinds in (
            (CRASHES, (RunnerGone,)),
            (ENDS, (RunnerGone,)),
            (HANGS, (RunnerGone,)),
            (GROWS, (ModelTooHungry, RunnerGone)),
            (RAISES, (ModelFailed,)),
            (NAN, (errors.Corrupt,)),
            (SHORT, (errors.Corrupt,)),
            (LARGE, (errors.Corrupt,)),
        ):
            bad = await loaded(runners, *described(tmp_path, name))
            assert await answers(bad)
            with pytest.raises(kinds):
                await ask(bad, kind)
            await bad.close()
            good = await loaded(runners, *described(tmp_path, name))
            await eventually(partial(answers, good), LONG)
            await good.close()
            await runners.close_idle()
        leaking = await loaded(runners, *described(tmp_path, name))
        for _ in range(16):  # 256 MiB each, which stay
            with suppress(errors.Error):
                await ask(leaking, LEAKS)
        await eventually(partial(answers, leaking), LONG)
        assert peak_of("self") - before < 64 << 20
        over.set()
        await asks
        assert served > 100
        assert theirs.pid == pid
    finally:
        over.set()
        await runners.close()
