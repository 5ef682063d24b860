"""What the trainer asks of ingest: which version a reference means, that it stays, and its bytes."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, Field

from kit import errors
from kit.clients import LONG_POLL, Principal, ServiceClient
from kit.events import Feed
from trainer.domain.jobs import Pinned
from trainer.domain.specs import DatasetReference

NOUN = "dataset-version"
READY, FAILED = "ready", "failed"


class InputsDiffer(errors.Corrupt): ...


@dataclass(frozen=True)
class VersionSeen:
    """A dataset version as ingest answers it."""

    phase: str
    message: str
    pinned: Pinned | None
    """Set when it is ready."""
    columns: tuple[str, ...]


@dataclass(frozen=True)
class ShardSeen:
    """A part of a dataset version."""

    digest: str
    rows: int
    size: int
    split: str


class _Status(BaseModel):
    phase: str
    message: str | None = None


class _Column(BaseModel):
    name: str


class _Version(BaseModel):
    dataset: str
    version: int
    digest: str | None = None
    status: _Status
    columns: list[_Column] = Field(default=[], alias="schema")


class _Shard(BaseModel):
    digest: str
    rows: int
    size: int
    split: str


class _Shards(BaseModel):
    digest: str
    shards: list[_Shard]


class IngestClient:
    """Ingest, as the trainer needs it. Every call raises errors.Unavailable when it does not answer."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def version(self, principal: Principal, reference: DatasetReference) -> VersionSeen:
        """
        Raises:
            errors.NotFound: there is no such dataset, or version.
        """
        path = f"/v1/datasets/{reference.name}/versions/{reference.version}"
        found = _Version.model_validate_json((await self._service.request(principal, "GET", path)).content)
        pinned = None
        if found.status.phase == READY and found.digest is not None:
            pinned = Pinned(f"{found.dataset}@{found.version}", found.digest)
        columns = tuple(column.name for column in found.columns)
        return VersionSeen(found.status.phase, found.status.message or "", pinned, columns)

    async def hold(self, principal: Principal, pinned: Pinned, holder: str) -> None:
        """Keep the version from being deleted.

        Raises:
            errors.NotFound: it is deleted.
        """
        await self._service.hold(principal, NOUN, pinned.reference, holder)

    async def release(self, principal: Principal, pinned: Pinned, holder: str) -> None:
        """Let go of it."""
        await self._service.release(principal, NOUN, pinned.reference, holder)

    async def shards(self, principal: Principal, pinned: Pinned) -> Sequence[ShardSeen]:
        """What the version is made of.

        Raises:
            errors.NotFound: it is deleted.
            InputsDiffer: the version of that name is another one.
        """
        response = await self._service.request(principal, "GET", f"{_path_of(pinned)}/shards")
        found = _Shards.model_validate_json(response.content)
        if found.digest != pinned.digest:
            raise InputsDiffer(f"{pinned.reference} has the digest {found.digest}, not {pinned.digest}.")
        return [ShardSeen(**shard.model_dump()) for shard in found.shards]

    async def fetch(self, principal: Principal, pinned: Pinned, shard: ShardSeen, path: Path) -> None:
        """Write a shard to a file, verified.

        Raises:
            errors.NotFound: it is deleted.
            InputsDiffer: the bytes are not those of the digest.
        """
        found = hashlib.sha256()
        file = await asyncio.to_thread(path.open, "wb")
        with file:
            async with self._service.stream(principal, f"{_path_of(pinned)}/shards/{shard.digest}") as chunks:
                async for chunk in chunks:
                    found.update(chunk)
                    file.write(chunk)
        if f"sha256:{found.hexdigest()}" != shard.digest:
            raise InputsDiffer(f"The bytes of a shard of {pinned.reference} are not those of its digest.")

    async def events(self, after: str, wait: timedelta = LONG_POLL) -> Feed:
        """What happened to datasets behind a cursor."""
        return await self._service.events(after, wait=wait)


def _path_of(pinned: Pinned) -> str:
    name, _, number = pinned.reference.partition("@")
    return f"/v1/datasets/{name}/versions/{number}"
