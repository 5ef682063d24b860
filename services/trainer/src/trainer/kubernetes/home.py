"""What a runner knows when it is started anew, on whatever node: a Secret in the cluster for each of its attempts.

It is written before there is a Job, and removed after: a Job without one is nobody's. Of two runners that believe to be
this host, the one with the older fence, or with the older version of the Secret, is told that it has lost.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from kit import errors
from trainer.domain import clusters
from trainer.domain.clusters import ATTEMPT, HOST, Site, name_of
from trainer.domain.grants import Grant
from trainer.kubernetes.cluster import Cluster, Object


@dataclass(frozen=True)
class Record:
    """An attempt that this host has."""

    grant: Grant
    uid: str = ""
    """Of its Job, once there is one: what has another is another one."""
    lines: int = 0
    """Lines that runners have written to the job's log."""
    stopping: bool = False
    """Whether we had the Job end."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Record":
        known = {each.name: value[each.name] for each in fields(cls) if each.name in value}
        return cls(**known | {"grant": Grant.from_json(value["grant"])})


class Home:
    """The state of a host that is a cluster."""

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self._cluster = cluster
        self._site = site
        self._versions: dict[str, str] = {}

    async def records(self) -> Sequence[Record]:
        """The attempts that an earlier runner had."""
        found, _ = await self._cluster.list("Secret", {HOST: self._site.host})
        known = [(each, _record(each)) for each in found]
        for document, record in known:
            if record is not None:
                self._versions[record.grant.attempt] = document["metadata"]["resourceVersion"]
        return [record for _, record in known if record is not None]

    async def take(self, grant: Grant) -> Record:
        """Write down what was granted. What was known of the attempt under an older fence is still known.

        Raises:
            errors.Conflict: somebody has it under a newer one.
        """
        try:
            document = await self._cluster.get("Secret", name_of(grant.attempt))
        except errors.NotFound:
            return await self._write(Record(grant))
        before = _record(document)
        if before is None:
            return await self._write(Record(grant))
        if before.grant.fence > grant.fence:
            raise errors.Conflict("The attempt has been given to another runner.")
        self._versions[grant.attempt] = document["metadata"]["resourceVersion"]
        return await self._write(Record(**_fields(before) | {"grant": grant}))

    async def save(self, record: Record) -> None:
        """Write down what is known.

        Raises:
            errors.Conflict: another runner has the attempt.
        """
        try:
            await self._write(record)
        except errors.Conflict:
            # Our own last word, whose answer was lost; or another runner's.
            document = await self._cluster.get("Secret", name_of(record.grant.attempt))
            found = _record(document)
            if found is None or found.grant.fence != record.grant.fence:
                raise
            self._versions[record.grant.attempt] = document["metadata"]["resourceVersion"]
            await self._write(record)

    async def forget(self, record: Record) -> None:
        """Remove everything of an attempt, unless another runner has it by now."""
        grant, name = record.grant, name_of(record.grant.attempt)
        self._versions.pop(grant.attempt, None)
        try:
            document = await self._cluster.get("Secret", name)
        except errors.NotFound:
            document = None
        found = None if document is None else _record(document)
        if found is not None and found.grant.fence > grant.fence:
            return
        await self._cluster.delete("Job", name, uid=record.uid or None)
        if document is not None:
            await self._cluster.delete("Secret", name, uid=document["metadata"]["uid"])

    async def orphans(self, jobs: Sequence[Object], attended: set[str]) -> Sequence[Object]:
        """Jobs that nobody looks after: without a record, as after somebody removed that."""
        recorded = {record.grant.attempt for record in await self.records()}
        return [each for each in jobs if each["metadata"]["labels"].get(ATTEMPT) not in recorded | attended]

    async def _write(self, record: Record) -> Record:
        document = clusters.secret(record.grant, self._site, asdict(record))
        if (version := self._versions.get(record.grant.attempt)) is not None:
            document["metadata"]["resourceVersion"] = version
        written = await self._cluster.apply(document)
        self._versions[record.grant.attempt] = written["metadata"]["resourceVersion"]
        return record


def _record(document: Object) -> Record | None:
    try:
        return Record.from_json(clusters.record_of(document))
    except (ValueError, KeyError, TypeError):
        return None


def _fields(record: Record) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in fields(record)}
