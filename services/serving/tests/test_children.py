"""Models that need scikit-learn: in a child, which may crash and hang without anybody else noticing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from registries import digest_of
from targets import target
from worlds import LOGISTIC, REGRESSOR, rows, trained

from kit import errors
from kit.testing import eventually
from models.rows import arrays_of
from serving.domain.revisions import File, Target
from serving.replica.children import (
    ChildLimits,
    ModelFailed,
    ModelNotReady,
    ModelTooHungry,
    Runner,
    RunnerGone,
)
from serving.replica.lanes import Queueing
from serving.replica.runners import InChild, Runners

LIMITS = ChildLimits(memory=4 << 30, load=timedelta(seconds=30), predict=timedelta(seconds=10))
LONG = timedelta(seconds=30)
Made = Callable[..., tuple[Target, Path]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A target without a twin, and the file of it."""

    def make(path: str = LOGISTIC, content: bytes | None = None, **of: int) -> tuple[Target, Path]:
        model = trained(path, twin=False, **of)
        data = model.files["skops"] if content is None else content
        file = tmp_path / digest_of(data)
        file.write_bytes(data)
        described = File("skops", "model.skops", digest_of(data), len(data))
        return target(file=described, signature=model.signature.to_json(), example=tuple(model.example)), file

    return make


@asynccontextmanager
async def running(limits: ChildLimits = LIMITS, *program: str) -> AsyncIterator[Runners]:
    command = (sys.executable, "-c", *program) if program else (sys.executable, "-m", "serving.runner")
    runners = Runners(limits, queueing=Queueing(10), command=command)
    try:
        yield runners
    finally:
        await runners.close()


def runner_of(runners: Runners, project: str = "demo") -> Runner:
    [found] = runners.of(project)
    return found


async def ask(model: InChild, count: int = 5) -> list[object]:
    asked = arrays_of(model.signature, {"rows": rows(count, seed=3)})
    return [tuple(it.values()) for it in model.signature.answers_of(await model.predict(asked, count))]


@pytest.mark.parametrize("path", [LOGISTIC, REGRESSOR])
async def test_a_child_answers_to_the_last_bit_as_the_estimator_does(made: Made, path: str) -> None:
    async with running() as runners:
        model = await runners.load("demo", *made(path))
        labels, scores = trained(path, twin=False).predict(rows(5, seed=3))
        expected = (
            list(zip(labels, strict=True)) if scores is None else list(zip(labels, scores[:, 1].tolist(), strict=True))
        )
        assert await ask(model) == expected
        for answer in await asyncio.gather(*(ask(model, 2) for _ in range(5))):  # in batches
            assert np.allclose(np.array(answer, float), np.array(expected[:2], float), atol=1e-12)


async def test_projects_have_children_of_their_own_and_models_of_one_project_share_theirs(made: Made) -> None:
    async with running() as runners:
        first, second = await runners.load("demo", *made()), await runners.load("demo", *made(seed=1))
        other = await runners.load("other", *made())
        mine, theirs = runner_of(runners).pid, runner_of(runners, "other").pid
        assert mine != theirs
        assert await ask(first) == await ask(other) != await ask(second)
        await other.close()
        await runners.close_idle()
        assert runners.of("other") == []
        assert runner_of(runners).pid == mine


async def test_a_child_that_crashes_is_started_again_with_its_models(made: Made) -> None:
    async with running() as runners:
        model = await runners.load("demo", *made())
        expected = await ask(model)
        before = runner_of(runners).pid
        assert before is not None
        os.kill(before, signal.SIGKILL)

        async def answers() -> bool:
            try:
                return await ask(model) == expected
            except errors.Unavailable:
                return False

        await eventually(answers, LONG)
        assert runner_of(runners).pid != before


async def test_who_asks_while_the_child_is_away_is_told_to_come_again(made: Made) -> None:
    async with running() as runners:
        model = await runners.load("demo", *made())
        pid = runner_of(runners).pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.create_task(ask(model))
        await asyncio.wait({waiting}, timeout=0.1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunnerGone):
            await waiting
        with pytest.raises(ModelNotReady):
            await ask(model)


async def test_a_child_that_hangs_is_ended(made: Made) -> None:
    hasty = ChildLimits(memory=4 << 30, load=timedelta(seconds=30), predict=timedelta(seconds=0.3))
    async with running(hasty) as runners:
        model = await runners.load("demo", *made())
        pid = runner_of(runners).pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(RunnerGone, match=r"within 0\.3 s"):
            await ask(model)

        async def is_another() -> bool:
            return runner_of(runners).pid not in (None, pid) and bool(await ask(model))

        async def comes_back() -> bool:
            try:
                return await is_another()
            except errors.Unavailable:
                return False

        await eventually(comes_back, LONG)


TALKS = """
import socket, sys, orjson, numpy as np
from serving.runner import frames
channel = socket.socket(fileno=int(sys.argv[1])).makefile("rwb")
loads = 0
def say(**said):
    channel.write(frames.pack(said, [np.zeros(5).tobytes()] if "shape" in said else ()))
    channel.flush()
while head := channel.read(frames.HEAD.size):
    header, body = frames.sizes(head)
    asked, _ = orjson.loads(channel.read(header)), channel.read(body)
    number, loads = asked["id"], loads + (asked["op"] == "load")
"""
SECOND_LOAD_HANGS = (
    TALKS
    + """
    say(id=number, begun=True)
    if asked["op"] == "predict":
        say(id=number, ok=True, values=None, shape=None)
    elif loads != 2:
        say(id=number, ok=True, seconds=1.0)
"""
)
ONE_AT_A_TIME = (
    TALKS
    + """
    import time
    say(id=number, begun=True)
    time.sleep(0.5 * (asked["op"] == "predict"))
    say(id=number, ok=True, seconds=1.0, values=None, shape=None)
"""
)
HASTY = ChildLimits(memory=4 << 30, load=timedelta(seconds=3), predict=timedelta(seconds=10))


async def test_a_load_that_hangs_costs_those_that_answer_nothing(made: Made) -> None:
    async with running(HASTY, SECOND_LOAD_HANGS) as runners:
        first = await runners.load("demo", *made(REGRESSOR))
        pid = runner_of(runners).pid
        arrays = arrays_of(first.signature, {"rows": rows(5)})
        hung = asyncio.create_task(runners.load("demo", *made(REGRESSOR, seed=1)))
        answered = 0
        while not hung.done():
            await first.predict(arrays, 5)
            answered += 1
        assert answered > 10
        with pytest.raises(RunnerGone, match="within 3 s"):
            await hung
        assert (await first.predict(arrays, 5)).values.tolist() == [0] * 5
        second = await runners.load("demo", *made(REGRESSOR, seed=1))  # in a child of its own by now
        assert len((await second.predict(arrays, 5)).values) == 5
        kept, fresh = runners.of("demo")
        assert kept.pid == pid != fresh.pid
        await second.close()
        await runners.close_idle()
        assert runner_of(runners).pid == pid
        assert len((await first.predict(arrays, 5)).values) == 5


async def test_who_waits_for_its_turn_is_not_late(made: Made) -> None:
    limits = ChildLimits(memory=4 << 30, load=timedelta(seconds=10), predict=timedelta(seconds=1.2))
    async with running(limits, ONE_AT_A_TIME) as runners:
        models = [await runners.load("demo", *made(REGRESSOR, seed=seed)) for seed in range(4)]
        arrays = arrays_of(models[0].signature, {"rows": rows(5)})
        answers = await asyncio.gather(*(model.predict(arrays, 5) for model in models))  # the last after two seconds
        assert [len(answer.values) for answer in answers] == [5] * 4


async def test_bytes_that_are_no_model_are_refused_by_the_child(made: Made) -> None:
    async with running() as runners:
        good = await runners.load("demo", *made())
        with pytest.raises(ModelFailed, match="not a skops file"):
            await runners.load("demo", *made(content=b"nothing"))
        described, path = made()
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ModelFailed, match="not those of"):
            await runners.load("demo", described, path)
        with pytest.raises(ModelFailed, match="FileNotFoundError"):
            await runners.load("demo", described, path.with_name("gone"))
        assert len(await ask(good)) == 5


async def test_a_model_needs_no_more_memory_than_it_may_have(made: Made) -> None:
    async with running(
        ChildLimits(memory=16 << 20, load=timedelta(seconds=30), predict=timedelta(seconds=10))
    ) as runners:
        with pytest.raises((ModelTooHungry, RunnerGone)):
            await runners.load("demo", *made())


async def test_a_child_that_does_not_start_is_said_so(made: Made) -> None:
    hasty = ChildLimits(memory=4 << 30, load=timedelta(seconds=1), predict=timedelta(seconds=1))
    async with running(hasty, "raise SystemExit(1)") as runners:
        with pytest.raises(RunnerGone):
            await runners.load("demo", *made())
    async with running(hasty) as runners:
        runners._command = ("/nowhere",)
        with pytest.raises(RunnerGone, match="does not start"):
            await runners.load("demo", *made())


async def test_what_is_no_frame_ends_the_child(made: Made) -> None:
    talks = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.send(b'\\xff' * 64); s.recv(1)"
    hasty = ChildLimits(memory=4 << 30, load=timedelta(seconds=2), predict=timedelta(seconds=1))
    async with running(hasty, talks) as runners:
        with pytest.raises(RunnerGone):
            await runners.load("demo", *made())


async def test_a_child_ends_with_its_parent(made: Made) -> None:
    async with running() as runners:
        await runners.load("demo", *made())
        pid = runner_of(runners).pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
