"""The main loop: take what there is room for, and look after it. One replica does so at a time; another waits."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from prometheus_client import Gauge

from kit import errors
from trainer.clients.trainer import TrainerClient
from trainer.domain.clusters import HOST, Site
from trainer.domain.grants import Grant
from trainer.kubernetes.attending import Attending
from trainer.kubernetes.cluster import Cluster
from trainer.kubernetes.home import Home, Record
from trainer.kubernetes.lock import Lock
from trainer.kubernetes.view import View

log = logging.getLogger(__name__)
LONG_POLL = timedelta(seconds=20)
SOON = 0.3
SWEEP = 60.0
ATTENDED = Gauge("trainyard_trainer_cluster_attempts", "Attempts that this runner has in its cluster.")
LEADS = Gauge("trainyard_trainer_cluster_leads", "1 in the replica that looks after the cluster's attempts.")


class Runner:
    """One for each cluster and namespace."""

    def __init__(
        self,
        home: Home,
        cluster: Cluster,
        view: View,
        trainer: TrainerClient,
        site: Site,
        lock: Lock,
        attend: Callable[[Record], Attending],
        *,
        slots: int,
    ) -> None:
        self._home = home
        self._cluster = cluster
        self._view = view
        self._trainer = trainer
        self._site = site
        self._lock = lock
        self._make = attend
        self._slots = slots
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._orphans: set[str] = set()
        ATTENDED.set_function(lambda: len(self._tasks))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. The Jobs go on: whoever is the runner next takes them over."""
        while not stop.is_set():
            if await self._lock.take(stop):
                LEADS.set(1)
                try:
                    await self._lead(stop)
                finally:
                    LEADS.set(0)
                    await self._lock.leave()

    async def _lead(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, or the lock is lost."""
        over = asyncio.Event()
        helpers = [
            asyncio.create_task(self._view.run()),
            asyncio.create_task(self._lock.keep(over)),
            asyncio.create_task(self._sweep()),
        ]
        ends = [asyncio.create_task(each.wait()) for each in (stop, over)]
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait({*ends, work, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            for each in (work, *helpers):
                if each.done():
                    each.result()  # none of them ends by itself
        finally:
            tasks = [*helpers, *ends, work, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.clear()

    async def _work(self) -> None:
        for record in await self._patiently_known():
            self._attend(record)
        while True:
            free = self._slots - len(self._tasks)
            if free <= 0:
                await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                grants = await self._trainer.lease(free, list(self._tasks), wait=LONG_POLL)
                for grant in grants:
                    await self._begin(grant)
            except errors.Error as exc:
                log.info("no lease just now", extra={"error": exc.detail})
                asked_for = timedelta(0) if exc.retry_after is None else exc.retry_after
                await asyncio.sleep(max(SOON, asked_for.total_seconds()))
                continue
            if not grants:  # it may have come at once, from a process that ends
                await asyncio.sleep(SOON)

    async def _patiently_known(self) -> list[Record]:
        while True:
            try:
                return list(await self._home.records())
            except errors.Error as exc:
                log.warning("the cluster's records cannot be read", extra={"error": exc.detail})
                await asyncio.sleep(SOON)

    async def _begin(self, grant: Grant) -> None:
        """What cannot be written down is not begun: the trainer gives it anew."""
        if (older := self._tasks.get(grant.attempt)) is not None:
            older.cancel()  # ours under an older fence
            await asyncio.wait({older})
        self._attend(await self._home.take(grant))

    def _attend(self, record: Record) -> None:
        grant = record.grant
        task = asyncio.create_task(self._make(record).run())
        self._tasks[grant.attempt] = task
        task.add_done_callback(lambda done: self._ended(done, grant))
        log.info("attending", extra={"attempt": grant.attempt, "job": grant.job, "known": bool(record.uid)})

    def _ended(self, task: "asyncio.Task[None]", grant: Grant) -> None:
        if self._tasks.get(grant.attempt) is task:
            del self._tasks[grant.attempt]
        if not task.cancelled() and task.exception() is not None:
            log.error("attempt dropped", exc_info=task.exception(), extra={"attempt": grant.attempt})

    async def _sweep(self) -> None:
        """End Jobs that nobody looks after, when that was so twice: their records were removed by somebody."""
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self.sweep()
            except errors.Error as exc:
                log.info("not swept just now", extra={"error": exc.detail})

    async def sweep(self) -> None:
        """One look."""
        jobs, _ = await self._cluster.list("Job", {HOST: self._site.host})
        found = {
            each["metadata"]["name"]: each["metadata"]["uid"]
            for each in await self._home.orphans(jobs, set(self._tasks))
        }
        for name in set(found) & self._orphans:
            log.warning("a Job without a record is ended", extra={"job": name})
            await self._cluster.delete("Job", name, uid=found[name])
        self._orphans = set(found)
