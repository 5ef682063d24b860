"""The runner's main loop: take what there is room for, and look after it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from prometheus_client import Gauge, Histogram

from kit import errors
from kit.metrics import LONG
from kit.reconcile import first
from trainer.clients.trainer import TrainerClient
from trainer.domain.grants import Grant
from trainer.runner.attending import Attending, no_room
from trainer.runner.host import Home, Record

log = logging.getLogger(__name__)
LONG_POLL = timedelta(seconds=20)
SLOTS = Gauge("trainyard_trainer_runner_slots", "Attempts that this runner works on at one time at most.")
ATTENDED = Gauge("trainyard_trainer_runner_attempts", "Attempts that this runner works on.")
ATTEMPT_SECONDS = Histogram(
    "trainyard_trainer_attempt_seconds", "From the grant of an attempt to its end here.", buckets=LONG
)
SOON = 0.3
RETRY = 0.1


class Runner:
    """One for each host."""

    def __init__(
        self, home: Home, trainer: TrainerClient, attend: Callable[[Record], Attending], *, slots: int
    ) -> None:
        self._home = home
        self._trainer = trainer
        self._make = attend
        self._slots = slots
        self._attended: dict[str, Attending] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        SLOTS.set(slots)
        ATTENDED.set_function(lambda: len(self._tasks))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and all programs have ended."""
        while not self._home.take():
            if stop.is_set():
                return
            await first(stop, seconds=RETRY)  # an earlier runner is just ending
        try:
            for record in self._home.records():
                self._attend(record)
            stopped = asyncio.create_task(stop.wait())
            while not stop.is_set():
                await self._take(stopped)
            stopped.cancel()
            for attending in self._attended.values():
                attending.leave()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
        finally:
            self._home.leave()

    async def _take(self, stopped: "asyncio.Task[bool]") -> None:
        free = self._slots - len(self._tasks)
        if free <= 0:
            await asyncio.wait({stopped, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
            return
        asked = asyncio.create_task(self._trainer.lease(free, list(self._attended), wait=LONG_POLL))
        await asyncio.wait({stopped, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()  # what it was about to bring is brought again to the next runner
            await asyncio.gather(asked, return_exceptions=True)
            return
        try:
            grants = await asked
        except errors.Error as exc:
            log.info("no lease just now", extra={"error": exc.detail})
            asked_for = timedelta(0) if exc.retry_after is None else exc.retry_after
            await asyncio.wait({stopped}, timeout=max(SOON, asked_for.total_seconds()))
            return
        if not grants:  # it may have come at once, from a process that ends
            await asyncio.wait({stopped}, timeout=SOON)
        for grant in grants:
            await self._begin(grant, stopped)

    async def _begin(self, grant: Grant, stopped: "asyncio.Task[bool]") -> None:
        if (older := self._tasks.get(grant.attempt)) is not None:
            # Ours under an older fence: its next heartbeat is refused, and it makes way.
            await asyncio.wait({older})
        record = Record(grant)
        try:
            await asyncio.to_thread(self._home.save, record)
        except OSError as exc:
            log.exception("no room for an attempt", extra={"attempt": grant.attempt})
            # Given back at once: what is not held is given anew, and its lease would never run out.
            with contextlib.suppress(errors.Error):
                await self._trainer.finish(grant, exit_code=None, result=None, failure=no_room(exc))
            await asyncio.wait({stopped}, timeout=SOON)
            return
        self._attend(record)

    def _attend(self, record: Record) -> None:
        grant = record.grant
        attending = self._make(record)
        self._attended[grant.attempt] = attending
        began = time.monotonic()
        task = asyncio.create_task(attending.run())
        self._tasks[grant.attempt] = task
        task.add_done_callback(lambda done: self._ended(done, grant))
        task.add_done_callback(lambda _: ATTEMPT_SECONDS.observe(time.monotonic() - began))
        log.info("attending", extra={"attempt": grant.attempt, "job": grant.job, "started": record.started})

    def _ended(self, task: "asyncio.Task[None]", grant: Grant) -> None:
        self._tasks.pop(grant.attempt, None)
        self._attended.pop(grant.attempt, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("attempt dropped", exc_info=task.exception(), extra={"attempt": grant.attempt})
