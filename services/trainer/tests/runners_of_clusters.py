"""A runner of a cluster in this process: started and killed as often as a test wants, against whatever cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from clusters_played import MANAGED_BY, Player
from runners_at_work import PATIENCE, Boss

from kit import errors
from kit.ids import uuid7
from kit.testing import eventually
from trainer.domain.clusters import HOST, Site
from trainer.domain.grants import Grant
from trainer.domain.shapes import Shape
from trainer.kubernetes.attending import Attending, Rules
from trainer.kubernetes.cluster import Cluster
from trainer.kubernetes.home import Home, Record
from trainer.kubernetes.lock import Lock
from trainer.kubernetes.runner import Runner
from trainer.kubernetes.view import View

SITE = Site(
    namespace="jobs",
    host="cluster",
    image="trainer-job:1",
    trainer_url="http://trainer",
    managed_by=MANAGED_BY,
    grace_seconds=1,
)
KINDS = ("Job", "Secret", "Service", "NetworkPolicy", "Pod")


def grant_of(**given: Any) -> Grant:
    """An attempt that asks for nothing in particular."""
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


class Giver(Boss):
    """As the trainer, it gives anew what it has given and its runner does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Grant] = {}

    async def lease(
        self, slots: int, holding: Collection[str], *, wait: timedelta, room: Any = None
    ) -> Sequence[Grant]:
        over = {end["attempt"] for end in self.ends}
        forgotten = [each for each in self.given.values() if each.attempt not in {*holding, *over}]
        self.queue += [replace(each, fence=each.fence + 1) for each in forgotten]
        given = await super().lease(slots, holding, wait=wait)
        self.given |= {each.attempt: each for each in given}
        return given

    async def beat(self, grant: Grant) -> bool:
        self._check_fence(grant)
        return await super().beat(grant)

    async def finish(self, grant: Grant, **said: Any) -> None:
        self._check_fence(grant)
        await super().finish(grant, **said)

    def _check_fence(self, grant: Grant) -> None:
        if self.given[grant.attempt].fence != grant.fence:
            raise errors.Conflict("given to another runner")
        if grant.attempt in {end["attempt"] for end in self.ends}:
            raise errors.Conflict("over")


@dataclass
class Host:
    """A runner of the cluster, as often as it is started."""

    player: Player
    boss: Boss
    site: Site
    look: float = 0.2
    resync: float = 0.5

    @classmethod
    def of(cls, player: Player, boss: Boss) -> "Host":
        return cls(player, boss, replace(SITE, namespace=player.namespace))

    @property
    def cluster(self) -> Cluster:
        return self.player.runners

    def runner(self, holder: str = "one") -> Runner:
        boss: Any = self.boss
        home = Home(self.cluster, self.site)
        view = View(self.cluster, {HOST: self.site.host}, resync=timedelta(seconds=self.resync))
        rules = Rules(beat=timedelta(seconds=0.05), usual=Shape(), look=self.look)

        def attend(record: Record) -> Attending:
            return Attending(home, self.cluster, view, boss, self.site, rules, record)

        lock = Lock(self.cluster, "trainer", holder, seconds=1, look=0.05)
        return Runner(home, self.cluster, view, boss, self.site, lock, attend, slots=4)

    @contextlib.asynccontextmanager
    async def running(self, *, kills: bool = False, holder: str = "one") -> AsyncIterator["asyncio.Task[None]"]:
        """Until the block ends: then it is told to end, or is gone as after kill -9."""
        stop, runner = asyncio.Event(), self.runner(holder)
        task = asyncio.create_task(runner.run(stop))
        try:
            yield task
        finally:
            if kills:
                await killed(task)
            else:
                stop.set()
                await asyncio.gather(task, return_exceptions=True) if task.cancelled() else await task

    async def left(self) -> list[str]:
        """What is in the cluster of all attempts."""
        found = [await self.player.cluster.list(kind, {HOST: self.site.host}) for kind in KINDS]
        return [each["metadata"]["name"] for items, _ in found for each in items]

    async def nothing_is_left(self) -> None:
        async def empty() -> bool:
            return not await self.left()

        await eventually(empty)


async def killed(task: "asyncio.Task[None]") -> None:
    """As after kill -9, but for a lock that is let go: the tests need not wait for it to run out."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def begun(player: Player, boss: Boss, grant: Grant) -> str:
    """Once the attempt's pod runs. Says its name."""
    boss.queue.append(grant)
    await eventually(lambda: player.has_job(grant), PATIENCE)
    return await player.start(grant)
