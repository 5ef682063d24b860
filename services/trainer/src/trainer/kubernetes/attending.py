"""One attempt in a cluster, from its grant to the word of how it ended.

The pods speak for themselves, with the attempt's token: they read their inputs from the trainer, log, and hand over
what they made. Here is looked after what they cannot say: that there is exactly one Job, that it ends when it should,
and why a pod went away.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from kit import errors, tracing
from trainer.clients.trainer import TrainerClient
from trainer.domain import clusters
from trainer.domain.clusters import ATTEMPT, CONTAINER, Site, name_of
from trainer.domain.grants import Grant
from trainer.domain.shapes import Shape, shape_of
from trainer.domain.sightings import Found, JobSeen, PodSeen, ending_of, hopeless, state_of, tells
from trainer.kubernetes.cluster import Cluster
from trainer.kubernetes.home import Home, Record
from trainer.kubernetes.view import View

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK = 5.0
"""Seconds between two looks at an attempt of which nothing new is heard."""
SOONEST, LATEST = 0.1, 5.0
SLACK = timedelta(seconds=60)
"""How much longer than its grace a Job that was told to end is waited for: the node of a pod may be dead."""
TAIL_LINES, TAIL_BYTES = 60, 4000
PASSING = (errors.Unavailable, errors.TooMany, errors.Unauthenticated, errors.Forbidden)
"""Of a neighbour that comes back, and of rights and quotas that somebody has to mend: no job fails for these."""
LOST = (errors.NotFound, errors.Conflict)


@dataclass(frozen=True)
class Rules:
    """How attempts are looked after."""

    beat: timedelta
    usual: Shape
    look: float = LOOK


class Lost(Exception):
    """The attempt is somebody else's, or over."""


class Attending:
    """Looks after one attempt."""

    def __init__(
        self, home: Home, cluster: Cluster, view: View, trainer: TrainerClient, site: Site, rules: Rules, record: Record
    ) -> None:
        self._home = home
        self._cluster = cluster
        self._view = view
        self._trainer = trainer
        self._site = site
        self._rules = rules
        self._record = record
        self._shape = shape_of(record.grant.spec, rules.usual)
        self._name = name_of(record.grant.attempt)
        self._unsaid: list[dict[str, Any]] = []
        self._speaking = asyncio.Lock()
        self._stop = asyncio.Event()
        self._told_at: float | None = None
        self._state = ""
        self._tailed: set[str] = set()

    @property
    def grant(self) -> Grant:
        """What was granted."""
        return self._record.grant

    async def run(self) -> None:
        """To its end: reported, or lost. Cancelled, it leaves everything as it is: the next runner goes on."""
        with tracing.quietly():
            life, beat = asyncio.create_task(self._live()), asyncio.create_task(self._beat())
            try:
                await asyncio.wait({life, beat}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                life.cancel()
                beat.cancel()
                ends = await asyncio.gather(life, beat, return_exceptions=True)
            broken = next((end for end in ends if isinstance(end, Exception) and not isinstance(end, Lost)), None)
            if broken is not None:
                log.error("attempt dropped", exc_info=broken, extra={"attempt": self.grant.attempt})
                await self._resign(broken)
            await self._patiently(lambda: self._home.forget(self._record))
            self._view.forget(self.grant.attempt)

    async def _live(self) -> None:
        found = await self._build()
        if found is None:
            found = await self._watch()
        await self._finish(found)

    async def _build(self) -> Found | None:
        """Have the Job, and what goes with it. Says why it cannot be had, if so."""
        try:
            if not self._record.uid:
                if self._stop.is_set():
                    return ending_of(None, (), stopped=True, memory=self._shape.memory)
                uid = await self._patiently(self._make)
                self._say("info", f"Attempt {self.grant.number} was given to the cluster as Job {self._name}.")
                await self._write_down(uid=uid)
                with contextlib.suppress(*PASSING):  # who follows the log need not wait for a heartbeat
                    await self._say_all()
            if self._shape.most > 1:
                for make in (clusters.service, clusters.policy):
                    document = make(self.grant, self._site, self._record.uid)
                    await self._patiently(lambda document=document: self._cluster.apply(document))
        except errors.Invalid as exc:
            message = f"The cluster does not take the job: {exc.detail}"[:2000]
            return Found(failure={"reason": "platform-error", "message": message})
        return None

    async def _make(self) -> str:
        """The uid of the attempt's one Job: found, or made. An answer that was lost is made up for by asking."""
        try:
            found = await self._cluster.get("Job", self._name)
        except errors.NotFound:
            found = await self._cluster.apply(clusters.job(self.grant, self._site, self._shape))
        self._view.note("Job", found)
        uid: str = found["metadata"]["uid"]
        return uid

    async def _watch(self) -> Found:
        """Until the Job has ended, or is gone."""
        while True:
            job, pods = await self._sight()
            await self._tell(job, pods)
            given_up = hopeless(pods, datetime.now(UTC))
            if job is None or self._overdue() or (job.ended and not job.leaving):
                return ending_of(job, await self._all_pods(), stopped=self._record.stopping, memory=self._shape.memory)
            if given_up is not None:
                return given_up
            if self._stop.is_set() and self._told_at is None:
                await self._end_job()
            await self._view.changed(self.grant.attempt, self._rules.look)

    async def _sight(self) -> tuple[JobSeen | None, list[PodSeen]]:
        attempt = self.grant.attempt
        job = self._view.job(attempt)
        if job is None or job.uid != self._record.uid:
            # Nothing follows from a view that may be behind: the cluster itself is asked.
            try:
                document = await self._patiently(lambda: self._cluster.get("Job", self._name))
            except errors.NotFound:
                return None, list(self._view.pods(attempt))
            self._view.note("Job", document)
            job = self._view.job(attempt)
            if job is not None and job.uid != self._record.uid:
                job = None  # ours is gone, and somebody made another one of its name
        return job, list(self._view.pods(attempt))

    async def _all_pods(self) -> list[PodSeen]:
        """With what the view may not have heard yet."""
        found, _ = await self._patiently(lambda: self._cluster.list("Pod", {ATTEMPT: self.grant.attempt}))
        for document in found:
            self._view.note("Pod", document)
        pods = list(self._view.pods(self.grant.attempt))
        await self._keep_tails(pods)
        return pods

    async def _tell(self, job: JobSeen | None, pods: list[PodSeen]) -> None:
        await self._keep_tails(pods)
        state = state_of(job, pods)
        if state and state != self._state:
            self._state = state
            self._say("info", state)

    async def _keep_tails(self, pods: list[PodSeen]) -> None:
        """What a pod printed last, as long as somebody knows it: with the pod it is gone."""
        for pod in pods:
            if tells(pod) and pod.uid not in self._tailed:
                self._tailed.add(pod.uid)
                tail = await self._cluster.tail(pod.name, container=CONTAINER, lines=TAIL_LINES, limit=TAIL_BYTES)
                if tail:
                    self._say("error", tail)

    async def _end_job(self) -> None:
        """Have its pods told, and wait for them: until they are gone, the Job is still there."""
        await self._write_down(stopping=True)
        await self._patiently(lambda: self._cluster.delete("Job", self._name, uid=self._record.uid, wait=True))
        self._told_at = asyncio.get_running_loop().time()

    def _overdue(self) -> bool:
        patience = self._site.grace_seconds + SLACK.total_seconds()
        return self._told_at is not None and asyncio.get_running_loop().time() > self._told_at + patience

    async def _finish(self, found: Found) -> None:
        result = None if found.result is None else found.result.to_json()

        async def say() -> None:
            await self._flush()
            await self._trainer.finish(self.grant, exit_code=found.exit_code, result=result, failure=found.failure)

        await self._patiently(say, ours=False)
        log.info("handed over", extra={"attempt": self.grant.attempt, "exit_code": found.exit_code})

    async def _resign(self, why: BaseException) -> None:
        """Nobody can go on: say so, since an attempt that nobody reports begins anew, again and again."""
        said = why.detail if isinstance(why, errors.Error) else f"{type(why).__name__}: {why}"
        message = f"The runner could not go on: {said}".replace("\0", "")[:2000]
        self._unsaid.clear()  # they may be what is not taken
        try:
            await self._finish(Found(failure={"reason": "platform-error", "message": message}))
        except (Lost, errors.Error) as exc:
            log.warning("not reported", extra={"attempt": self.grant.attempt, "error": str(exc)})

    async def _patiently(self, act: Callable[[], Awaitable[T]], *, ours: bool = True) -> T:
        """Who is away comes back, and rights are mended: try again. `ours`: whether it is about the cluster."""
        pause = SOONEST
        while True:
            try:
                return await act()
            except PASSING as exc:
                log.info("not just now", extra={"attempt": self.grant.attempt, "error": exc.detail})
                asked_for = timedelta(0) if exc.retry_after is None else exc.retry_after
                await asyncio.sleep(max(pause, asked_for.total_seconds()))
                pause = min(2 * pause, LATEST)
            except LOST as exc:
                if ours:
                    raise
                raise Lost(exc.detail) from None

    async def _beat(self) -> None:
        """Until the attempt is lost."""
        while True:
            try:
                if await self._trainer.beat(self.grant) and not self._stop.is_set():
                    self._stop.set()
                    self._view.wake(self.grant.attempt)
                await self._say_all()
            except PASSING:
                pass
            except LOST as exc:
                raise Lost(exc.detail) from None
            await asyncio.sleep(self._rules.beat.total_seconds())

    async def _write_down(self, **known: Any) -> None:
        self._record = replace(self._record, **known)
        try:
            await self._patiently(lambda: self._home.save(self._record))
        except errors.Conflict as exc:
            raise Lost(exc.detail) from None

    def _say(self, level: str, message: str) -> None:
        """A line for the job's log. It goes out with the next heartbeat."""
        self._record = replace(self._record, lines=self._record.lines + 1)
        at = datetime.now(UTC).isoformat()
        self._unsaid.append({"number": self._record.lines, "at": at, "level": level, "message": message})

    async def _say_all(self) -> None:
        try:
            await self._flush()
        except LOST as exc:
            raise Lost(exc.detail) from None

    async def _flush(self) -> None:
        async with self._speaking:  # of two at once, the second would drop what neither has sent
            batch = list(self._unsaid)
            if batch:
                with contextlib.suppress(errors.NotFound):
                    await self._home.save(self._record)  # a number that was used is not used again
                await self._trainer.lines(self.grant, batch)
                del self._unsaid[: len(batch)]
