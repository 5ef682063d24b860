"""Which of a runner's replicas works: the holder of a Lease in the cluster.

A convenience: what keeps two from doing harm are fences. A replica that ends lets go at once; one that is gone is
followed when its lease has run out.
"""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import Any

from kit import errors
from kit.reconcile import first
from trainer.kubernetes.cluster import Cluster, Object

log = logging.getLogger(__name__)
SECONDS = 15
RENEW = 4.0
LOOK = 1.0


class Lock:
    """A Lease by name, for one replica. A holder's clock is never compared with ours: what counts is how long we have
    seen no change."""

    def __init__(
        self, cluster: Cluster, name: str, holder: str, *, seconds: float = SECONDS, look: float = LOOK
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._holder = holder
        self._seconds = seconds
        self._look = look
        self._mine: Object | None = None
        self._seen: tuple[str, float] = ("", 0.0)

    async def take(self, stop: asyncio.Event) -> bool:
        """Become the holder, once nobody else is. False: `stop` was set before that."""
        while not stop.is_set():
            try:
                if await self._try():
                    return True
            except errors.Error as exc:
                log.info("the lock cannot be had just now", extra={"error": exc.detail})
            await first(stop, seconds=self._look)
        return False

    async def keep(self, over: asyncio.Event) -> None:
        """Stay the holder. Sets `over` when somebody else is, or may be."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(min(RENEW, self._seconds / 4))
            try:
                assert self._mine is not None
                self._mine = await self._cluster.replace(self._document(self._mine))
                renewed = loop.time()
            except (errors.Conflict, errors.NotFound) as exc:
                log.warning("the lock is lost", extra={"error": exc.detail})
                over.set()
            except errors.Error as exc:
                log.info("the lock was not renewed just now", extra={"error": exc.detail})
            if loop.time() - renewed > self._seconds * 2 / 3:
                over.set()  # before anybody else may take it

    async def leave(self) -> None:
        """Let go, so that the next one need not wait."""
        mine, self._mine = self._mine, None
        if mine is not None:
            document = self._document(mine)
            document["spec"]["holderIdentity"] = ""
            with contextlib.suppress(errors.Error, TimeoutError):
                async with asyncio.timeout(2):
                    await self._cluster.replace(document)

    async def _try(self) -> bool:
        now = asyncio.get_running_loop().time()
        try:
            found = await self._cluster.get("Lease", self._name)
        except errors.NotFound:
            return await self._become(self._cluster.create(self._document(None)))
        version = found["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, now)
        holder = (found.get("spec") or {}).get("holderIdentity")
        if holder in (None, "", self._holder) or now - self._seen[1] > self._seconds:
            return await self._become(self._cluster.replace(self._document(found)))
        return False

    async def _become(self, change: Any) -> bool:
        try:
            self._mine = await change
        except (errors.Conflict, errors.NotFound):
            return False  # somebody was quicker
        return True

    def _document(self, before: Object | None) -> Object:
        metadata: Object = {"name": self._name, "namespace": self._cluster.namespace}
        spec: Object = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "renewTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
        if before is not None:
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
