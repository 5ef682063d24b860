"""What a runner believes of its Jobs and pods: listed, then watched, and listed again from time to time.

It may be behind, and never goes back: what is older than what was seen is dropped, a list too. That something is
missing here means nothing by itself; who acts on that asks the cluster first.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from prometheus_client import Counter

from kit import errors
from kit.reconcile import first
from trainer.domain.clusters import ATTEMPT
from trainer.domain.sightings import JobSeen, PodSeen, job_seen, pod_seen, version_of
from trainer.kubernetes.cluster import Cluster, Gone, Object

log = logging.getLogger(__name__)
LISTS = Counter(
    "trainyard_trainer_cluster_lists_total", "Lists of a cluster's objects, by what made them needed.", ["why"]
)
RESYNC = timedelta(minutes=2)
"""Between two lists: an event that never came is made up for then."""
SOONEST, LATEST = 0.2, 5.0


@dataclass
class _Attempt:
    job: JobSeen | None = None
    pods: dict[str, PodSeen] = field(default_factory=dict)
    """By uid. A pod that is gone stays, since it may be what tells why."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class View:
    """Of all attempts of a host in one cluster."""

    def __init__(self, cluster: Cluster, labels: Mapping[str, str], *, resync: timedelta = RESYNC) -> None:
        self._cluster = cluster
        self._labels = labels
        self._resync = resync
        self._attempts: defaultdict[str, _Attempt] = defaultdict(_Attempt)
        self._newest = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in ("Job", "Pod"):
                group.create_task(self._follow(kind))

    def job(self, attempt: str) -> JobSeen | None:
        """The attempt's Job, as far as is known."""
        return self._attempts[attempt].job

    def pods(self, attempt: str) -> Sequence[PodSeen]:
        """The attempt's pods, those that are gone too."""
        return list(self._attempts[attempt].pods.values())

    async def changed(self, attempt: str, seconds: float) -> None:
        """Wait for news of the attempt, so long at most."""
        event = self._attempts[attempt].changed
        await first(event, seconds=seconds)
        event.clear()

    def wake(self, attempt: str) -> None:
        """There is something new about the attempt, from elsewhere."""
        self._attempts[attempt].changed.set()

    def forget(self, attempt: str) -> None:
        """The attempt is over."""
        self._attempts.pop(attempt, None)

    def note(self, kind: str, document: Object) -> None:
        """Take in what was said of a Job or a pod, unless something newer is known."""
        attempt = (document["metadata"].get("labels") or {}).get(ATTEMPT)
        if attempt is None:
            return
        known = self._attempts[attempt]
        if kind == "Job":
            if known.job is not None and known.job.version >= version_of(document):
                return
            known.job = job_seen(document)
        else:
            before = known.pods.get(document["metadata"]["uid"])
            if before is not None and before.version >= version_of(document):
                return
            known.pods[document["metadata"]["uid"]] = pod_seen(document, before)
        known.changed.set()

    def note_gone(self, kind: str, document: Object) -> None:
        """Take in that a Job or a pod is no more."""
        self.note(kind, document)
        attempt = (document["metadata"].get("labels") or {}).get(ATTEMPT)
        if attempt is not None:
            self._drop(kind, attempt, document["metadata"]["uid"])

    def _drop(self, kind: str, attempt: str, uid: str) -> None:
        known = self._attempts[attempt]
        if kind == "Job" and known.job is not None and known.job.uid == uid:
            known.job = None
        elif kind == "Pod" and uid in known.pods:
            known.pods[uid] = replace(known.pods[uid], leaving=True)
        known.changed.set()

    async def _follow(self, kind: str) -> None:
        pause, why = SOONEST, "start"
        version: str | None = None
        while True:
            try:
                if version is None:
                    LISTS.labels(why).inc()
                    version = await self._list(kind)
                version, why = await self._watch(kind, version), "resync"
                pause = SOONEST
            except Gone:
                version, why = None, "gone"
            except errors.Error as exc:
                log.info("the cluster cannot be watched just now", extra={"kind": kind, "error": exc.detail})
                asked_for = timedelta(0) if exc.retry_after is None else exc.retry_after
                await asyncio.sleep(max(pause, asked_for.total_seconds()))
                pause = min(2 * pause, LATEST)

    async def _list(self, kind: str) -> str:
        items, version = await self._cluster.list(kind, self._labels)
        if int(version) < self._newest:
            raise errors.Unavailable("The cluster's list is older than what was seen already.")
        self._newest = int(version)
        for item in items:
            self.note(kind, item)
        present = {item["metadata"]["uid"] for item in items}
        for attempt, known in list(self._attempts.items()):
            uids = [known.job.uid] if kind == "Job" and known.job is not None else []
            uids += list(known.pods) if kind == "Pod" else []
            for uid in set(uids) - present:
                self._drop(kind, attempt, uid)
        return version

    async def _watch(self, kind: str, version: str) -> str | None:
        """The version up to which all is known; None when it is time to list again."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._resync.total_seconds()
        newest = version
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(ends), contextlib.aclosing(self._events(kind, version)) as events:
                async for what, document in events:
                    newest = document["metadata"]["resourceVersion"]
                    self._newest = max(self._newest, int(newest))
                    if what == "DELETED":
                        self.note_gone(kind, document)
                    elif what != "BOOKMARK":
                        self.note(kind, document)
        return newest if loop.time() < ends else None

    def _events(self, kind: str, version: str) -> Any:
        return self._cluster.watch(kind, self._labels, version)
