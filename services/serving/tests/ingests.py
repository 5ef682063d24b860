"""An ingest as batches know it, in this process: its rows, its parts, and its moods."""

import asyncio
import gzip
import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kit import errors
from kit.clients import Principal
from serving.clients.ingest import VersionSeen
from serving.domain.batches import Column, Cut, Pinned, Shard

Rows = list[dict[str, Any]]
TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Ingest:
    """Datasets of shards of so many rows; the last one is held out."""

    def __init__(self, *, shard_rows: int = 1 << 20) -> None:
        self.shard_rows = shard_rows
        self.versions: dict[str, Rows] = {}
        self.columns: dict[str, tuple[Column, ...]] = {}
        self.parts: dict[uuid.UUID, dict[str, bytes]] = {}
        self.made: dict[uuid.UUID, str] = {}
        self.wanted: dict[uuid.UUID, dict[str, Any]] = {}
        self.closed: set[uuid.UUID] = set()
        self.holds: set[tuple[str, str]] = set()
        self.calls: list[str] = []
        self.phase = "ready"
        """Of a version that is made."""
        self.before: Callable[[str], None] = lambda call: None
        """Told of each call: what it raises is the answer."""

    def add(self, reference: str, rows: Rows, columns: Sequence[Column] | None = None) -> None:
        self.versions[reference] = rows
        known: dict[str, str] = {}
        for row in rows:
            known |= {name: TYPES[type(value)] for name, value in row.items() if value is not None}
        self.columns[reference] = tuple(columns or (Column(name, known[name]) for name in rows[0]))

    def _called(self, call: str) -> None:
        self.calls.append(call)
        self.before(call)

    def _shards(self, reference: str) -> list[tuple[Shard, Rows]]:
        rows, found = self.versions[reference], []
        for start in range(0, len(rows), self.shard_rows):
            some = rows[start : start + self.shard_rows]
            split = "held_out" if start + self.shard_rows >= len(rows) and start else "train"
            found.append((Shard(digest_of(json.dumps(some).encode()), len(some), split), some))
        return found

    async def version(self, principal: Principal, reference: str) -> VersionSeen:
        self._called("version")
        known = [it for it in self.versions if it.partition("@")[0] == reference or it == reference]
        if not known:
            raise errors.NotFound(f"There is no version {reference}.")
        return VersionSeen(known[-1], f"sha256:{known[-1]}", "ready", "", self.columns[known[-1]])

    async def hold(self, principal: Principal, reference: str, holder: str) -> None:
        self._called("hold")
        self.holds.add((reference, holder))

    async def release(self, principal: Principal, reference: str, holder: str) -> None:
        self._called("release")
        self.holds.discard((reference, holder))

    async def shards(self, principal: Principal, pinned: Pinned) -> Sequence[Shard]:
        self._called("shards")
        return [shard for shard, _ in self._shards(pinned.reference)]

    async def rows(self, principal: Principal, pinned: Pinned, cut: Cut, path: Path, *, largest: int) -> None:
        self._called("rows")
        [rows] = [rows for shard, rows in self._shards(pinned.reference) if shard.digest == cut.digest]
        lines = [json.dumps(row) + "\n" for row in rows[cut.start : cut.start + cut.rows]]
        await asyncio.to_thread(path.write_text, "".join(lines))

    async def bring(self, principal: Principal, assembly: uuid.UUID, path: Path) -> str:
        self._called("bring")
        if assembly in self.closed:
            raise errors.Conflict("The assembly is closed.")
        content = await asyncio.to_thread(path.read_bytes)
        self.parts.setdefault(assembly, {})[digest_of(content)] = content
        return digest_of(content)

    async def assemble(self, principal: Principal, assembly: uuid.UUID, wanted: dict[str, Any]) -> VersionSeen:
        self._called("assemble")
        if assembly not in self.made:
            if assembly in self.closed:
                raise errors.Conflict("The assembly is closed.")
            self.wanted[assembly] = wanted
            number = sum(it.startswith(f"{wanted['dataset']}@") for it in self.made.values()) + 1
            self.made[assembly] = f"{wanted['dataset']}@{number}"
            self.closed.add(assembly)
        reference = self.made[assembly]
        return VersionSeen(reference, f"sha256:{reference}" if self.phase == "ready" else None, self.phase, "", ())

    async def give_up(self, principal: Principal, assembly: uuid.UUID) -> None:
        self._called("give_up")
        self.closed.add(assembly)
        self.parts.pop(assembly, None)

    def result(self, assembly: uuid.UUID) -> Rows:
        """The rows of the version that was made, read as ingest reads them."""
        parts = self.parts[assembly]
        content = gzip.decompress(b"".join(parts[digest] for digest in self.wanted[assembly]["parts"]))
        return [json.loads(line) for line in content.splitlines()]
