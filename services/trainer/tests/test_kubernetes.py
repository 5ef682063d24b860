"""A runner that has a cluster run its attempts: from a grant to the word of how it ended, exactly one Job for each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cluster_at_work import FakeCluster
from clusters_played import MANAGED_BY, Player, player_at, served
from runners_at_work import PATIENCE, Boss, ended

from kit.ids import uuid7
from kit.testing import eventually
from trainer.domain.clusters import HOST, Site, name_of
from trainer.domain.grants import Grant
from trainer.domain.shapes import Shape
from trainer.kubernetes.attending import Attending, Rules
from trainer.kubernetes.cluster import Cluster
from trainer.kubernetes.home import Home, Record
from trainer.kubernetes.lock import Lock
from trainer.kubernetes.runner import Runner
from trainer.kubernetes.view import View

SITE = Site(
    namespace="jobs", host="cluster", image="trainer-job:1", trainer_url="http://trainer", managed_by=MANAGED_BY,
    grace_seconds=1,
)  # fmt: skip


def grant_of(**given: Any) -> Grant:
    values: dict[str, Any] = {
        "attempt": str(uuid7()),
        "project": "blue",
        "job": str(uuid7()),
        "number": 1,
        "fence": 1,
        "token": "tya_secret",
        "subject": "ada",
        "dataset": "flights@3",
        "dataset_digest": "sha256:" + "0" * 64,
        "spec": {},
    }
    return Grant(**values | given)


@dataclass
class Host:
    """A runner of the cluster, as often as it is started."""

    cluster: Cluster
    boss: Boss

    def runner(self, holder: str = "one") -> Runner:
        boss: Any = self.boss
        home, view = Home(self.cluster, SITE), View(self.cluster, {HOST: SITE.host}, resync=timedelta(seconds=0.5))
        rules = Rules(beat=timedelta(seconds=0.05), usual=Shape(), look=0.3)

        def attend(record: Record) -> Attending:
            return Attending(home, self.cluster, view, boss, SITE, rules, record)

        lock = Lock(self.cluster, "trainer", holder, seconds=1, look=0.05)
        return Runner(home, self.cluster, view, boss, SITE, lock, attend, slots=4)

    @contextlib.asynccontextmanager
    async def running(self, *, kills: bool = False, holder: str = "one") -> AsyncIterator[Runner]:
        """Until the block ends: then it is told to end, or is gone as after kill -9."""
        stop, runner = asyncio.Event(), self.runner(holder)
        task = asyncio.create_task(runner.run(stop))
        try:
            yield runner
        finally:
            if kills:
                runner._lock._mine = None  # it does not let go of anything
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                stop.set()
                await task


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def player(fake: FakeCluster) -> AsyncIterator[Player]:
    async with served(fake) as url, player_at(url) as player:
        yield player


@pytest.fixture
def host(player: Player, boss: Boss) -> Host:
    return Host(player.cluster, boss)


async def begun(player: Player, boss: Boss, grant: Grant) -> str:
    """Once the attempt's pod runs. Says its name."""
    boss.queue.append(grant)
    await eventually(lambda: player.has_job(grant), PATIENCE)
    return await player.start(grant)


async def left(player: Player, grant: Grant) -> bool:
    """Whether nothing of the attempt is left."""
    kinds = ("Job", "Secret", "Service", "NetworkPolicy", "Pod")
    found = [await player.cluster.list(kind, {HOST: SITE.host}) for kind in kinds]
    return not any(items for items, _ in found)


async def test_an_attempt_becomes_a_job_and_nothing_is_left(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await eventually(lambda: "The job runs on nowhere." in boss.said)
        await player.end(pod, 0)
        await player.complete(grant)
        end = await ended(boss)
        await player.gone(pod)
        await eventually(lambda: left(player, grant))
    assert end == {"exit_code": 0, "result": None, "failure": None, "attempt": grant.attempt}
    assert boss.said[0] == f"Attempt 1 was given to the cluster as Job {name_of(grant.attempt)}."
    assert boss.beats > 0
