"""What serving asks of ingest: which version a reference means, that it stays, its rows; and what it brings there."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, Field, ValidationError

from kit import errors
from kit.clients import Principal, ServiceClient
from serving.clients.registry import AnswerNotUnderstood
from serving.domain.batches import Column, Cut, Pinned, Shard

NOUN = "dataset-version"
READY, FAILED = "ready", "failed"
PATIENCE = httpx2.Timeout(600.0, connect=2.0)
"""With what puts gigabytes together."""
CHUNK = 1 << 20


class PartTooLarge(errors.TooLarge):
    """The rows of a part are more bytes than a process takes."""


class RowsDiffer(errors.Corrupt):
    """Ingest gave other rows than it had listed."""


@dataclass(frozen=True)
class VersionSeen:
    """A dataset version as ingest answers it."""

    reference: str
    digest: str | None
    """Set when it is ready."""
    phase: str
    message: str
    columns: tuple[Column, ...]


class _Status(BaseModel):
    phase: str
    message: str | None = None


class _Column(BaseModel):
    name: str
    type: str


class _Version(BaseModel):
    dataset: str
    version: int
    digest: str | None = None
    status: _Status
    columns: list[_Column] = Field(default=[], alias="schema")


class _Shard(BaseModel):
    digest: str
    rows: int
    split: str


class _Shards(BaseModel):
    digest: str
    shards: list[_Shard]


class _Upload(BaseModel):
    upload: str


class Ingest:
    """Every call raises errors.Unavailable when it does not answer."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def version(self, principal: Principal, reference: str) -> VersionSeen:
        """
        Raises:
            errors.NotFound: there is no such dataset, or version.
        """
        name, _, version = reference.partition("@")
        response = await self._client.request(principal, "GET", f"/v1/datasets/{name}/versions/{version or 'latest'}")
        return _seen(response)

    async def hold(self, principal: Principal, reference: str, holder: str) -> None:
        """Keep the version from being deleted.

        Raises:
            errors.NotFound: it is deleted.
        """
        await self._client.hold(principal, NOUN, reference, holder)

    async def release(self, principal: Principal, reference: str, holder: str) -> None:
        await self._client.release(principal, NOUN, reference, holder)

    async def shards(self, principal: Principal, pinned: Pinned) -> Sequence[Shard]:
        """What the version is made of.

        Raises:
            errors.NotFound: it is deleted.
            RowsDiffer: the version of that name is another one.
        """
        response = await self._client.request(principal, "GET", f"{_path_of(pinned)}/shards")
        try:
            found = _Shards.model_validate_json(response.content)
        except ValidationError:
            raise AnswerNotUnderstood("Ingest lists shards in a way that is not known.") from None
        if found.digest != pinned.digest:
            raise RowsDiffer(f"{pinned.reference} has the digest {found.digest}, not {pinned.digest}.")
        return [Shard(shard.digest, shard.rows, shard.split) for shard in found.shards]

    async def rows(self, principal: Principal, pinned: Pinned, cut: Cut, path: Path, *, largest: int) -> None:
        """Write the rows of a cut to a file, one line of JSON each.

        Raises:
            errors.NotFound: the version is deleted.
            PartTooLarge: they are more than `largest` bytes.
            RowsDiffer: they are more or fewer than there were to be.
        """
        asked = f"{_path_of(pinned)}/shards/{cut.digest}/rows?start={cut.start}&count={cut.rows}"
        size = lines = 0
        with await asyncio.to_thread(path.open, "wb") as file:
            async with self._client.stream(principal, f"/internal{asked}") as chunks:
                async for chunk in chunks:
                    size, lines = size + len(chunk), lines + chunk.count(b"\n")
                    if size > largest:
                        raise PartTooLarge(f"{cut.rows} rows have more than {largest} bytes.")
                    await asyncio.to_thread(file.write, chunk)
        if lines != cut.rows:
            raise RowsDiffer(f"Ingest gave {lines} rows of {pinned.reference} in place of {cut.rows}.")

    async def bring(self, principal: Principal, assembly: uuid.UUID, path: Path) -> str:
        """Hand over what a part became. Its digest, by which the version is made."""
        target = f"/internal/v1/assemblies/{assembly}/parts"
        response = await self._client.request(principal, "POST", target, content=_chunks(path), patience=PATIENCE)
        try:
            return _Upload.model_validate_json(response.content).upload
        except ValidationError:
            raise AnswerNotUnderstood("Ingest answers for a part in a way that is not known.") from None

    async def assemble(self, principal: Principal, assembly: uuid.UUID, wanted: dict[str, Any]) -> VersionSeen:
        """The version of all parts, made or being made. Asked for again, it is the same one.

        Raises:
            errors.NotFound: it was deleted since.
        """
        target = f"/internal/v1/assemblies/{assembly}"
        return _seen(await self._client.request(principal, "PUT", target, json=wanted, patience=PATIENCE))

    async def give_up(self, principal: Principal, assembly: uuid.UUID) -> None:
        """No version is to be made of the parts any more; one that was made stays."""
        await self._client.request(principal, "DELETE", f"/internal/v1/assemblies/{assembly}")


def _seen(response: httpx2.Response) -> VersionSeen:
    try:
        found = _Version.model_validate_json(response.content)
    except ValidationError:
        raise AnswerNotUnderstood("Ingest describes a version in a way that is not known.") from None
    columns = tuple(Column(column.name, column.type) for column in found.columns)
    status, reference = found.status, f"{found.dataset}@{found.version}"
    return VersionSeen(reference, found.digest, status.phase, status.message or "", columns)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def _path_of(pinned: Pinned) -> str:
    name, _, number = pinned.reference.partition("@")
    return f"/v1/datasets/{name}/versions/{number}"
