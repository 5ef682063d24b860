"""A trainer that a runner talks to, in this process: it gives what it is told to give, and remembers what it hears."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from attempts_at_work import flights
from neighbours import Neighbours

from kit import errors
from kit.ids import uuid7
from kit.testing import eventually
from trainer.clients.ingest import IngestClient
from trainer.domain.attempts import OutputFile, TrainingSpec
from trainer.domain.grants import Grant
from trainer.runner.attending import Attending, Rules
from trainer.runner.host import Home, Record
from trainer.runner.runner import Runner

PATIENCE = timedelta(seconds=60)
QUICK = {"class": "sklearn.tree.DecisionTreeClassifier", "parameters": {"max_depth": 3}}
SLOW = {"class": "sklearn.ensemble.RandomForestClassifier", "parameters": {"n_estimators": 10_000}}


class Boss:
    """Stands where `trainer.clients.trainer.TrainerClient` stands."""

    def __init__(self) -> None:
        self.queue: list[Grant] = []
        self.asked: list[tuple[int, set[str]]] = []
        self.beats = self.puts = 0
        self.stop = False
        self.said: list[str] = []
        self.outputs: dict[str, bytes] = {}
        self.ends: list[dict[str, Any]] = []
        self.raises: dict[str, errors.Error] = {}
        """What a call of that name raises, as long as it stands here."""
        self.hears: Callable[[], object] = lambda: None
        """Called with every batch of lines."""
        self.nothing: errors.Error | None = errors.Unavailable("nothing just now")
        """Raised when there is no work; without it, the answer is empty."""

    def _check(self, name: str) -> None:
        if name in self.raises:
            raise self.raises[name]

    async def lease(self, slots: int, holding: Collection[str], *, wait: timedelta) -> Sequence[Grant]:
        self._check("lease")
        self.asked.append((slots, set(holding)))
        given, self.queue = self.queue[:slots], self.queue[slots:]
        if not given and self.nothing is not None:
            raise self.nothing
        return given

    async def beat(self, grant: Grant) -> bool:
        self.beats += 1
        self._check("beat")
        return self.stop

    async def lines(self, grant: Grant, entries: Sequence[dict[str, Any]]) -> None:
        self._check("lines")
        self.hears()
        self.said += [entry["message"] for entry in entries]

    async def put_output(self, grant: Grant, file: OutputFile, path: Path) -> None:
        self.puts += 1
        self._check("put_output")
        self.outputs[file.digest] = path.read_bytes()  # noqa: ASYNC240 - a small file of a test

    async def finish(
        self, grant: Grant, *, exit_code: int | None, result: dict[str, Any] | None, failure: dict[str, str] | None
    ) -> None:
        self._check("finish")
        self.ends.append({"exit_code": exit_code, "result": result, "failure": failure, "attempt": grant.attempt})


class Host:
    """A host with a runner in this process, and real children."""

    def __init__(self, folder: Path, boss: Boss, ingest: IngestClient, url: str) -> None:
        self.home = Home(folder)
        self.boss = boss
        self.ingest = ingest
        self.url = url

    def runner(self, *, memory: int = 4 << 30, grace: float = 5, slots: int = 2, beat: float = 0.05) -> Runner:
        rules = Rules(memory, timedelta(seconds=beat), timedelta(seconds=grace), self.url)
        boss: Any = self.boss

        def attend(record: Record) -> Attending:
            return Attending(self.home, boss, self.ingest, rules, record)

        return Runner(self.home, boss, attend, slots=slots)

    def work(self, grant: Grant) -> Path:
        return self.home.work_of(grant)


def grant_of(neighbours: Neighbours, estimator: dict[str, Any] = QUICK, *, rows: int = 600, **given: Any) -> Grant:
    """An attempt at a job on a dataset version that ingest has."""
    table: pa.Table = flights(rows)
    neighbours.add_version(train=table.slice(0, rows * 3 // 4), held_out=table.slice(rows * 3 // 4))
    body = {"task": "classification", "target": "late", "estimator": estimator, "features": ["hour", "wind", "carrier"]}
    values: dict[str, Any] = {
        "attempt": str(uuid7()),
        "project": "blue",
        "job": str(uuid7()),
        "number": 1,
        "fence": 1,
        "token": "tya_secret",
        "subject": "ada",
        "dataset": "flights@3",
        "dataset_digest": neighbours.versions["flights@3"]["digest"],
        "spec": TrainingSpec.from_json(body).to_json(),
    }
    return Grant(**values | given)


@contextlib.asynccontextmanager
async def running(
    host: Host, *, kills: bool = False, memory: int = 4 << 30, grace: float = 5, beat: float = 0.05
) -> AsyncIterator[None]:
    """A runner, until the block ends: then it is told to end, or is gone as after kill -9."""
    stop = asyncio.Event()
    task = asyncio.create_task(host.runner(memory=memory, grace=grace, beat=beat).run(stop))
    others = asyncio.all_tasks()
    yield
    if kills:
        mine = asyncio.all_tasks() - others | {task}
        for each in mine - {asyncio.current_task()}:
            each.cancel()
        await asyncio.gather(*mine - {asyncio.current_task()}, return_exceptions=True)
    else:
        stop.set()
        await task


async def ended(boss: Boss) -> dict[str, object]:
    await eventually(lambda: boss.ends, PATIENCE)
    return boss.ends[0]
