"""Work on parts of batches, beside what is asked online and behind it: a little at a time, and never two at once.

A part is leased from whoever has it, worked on outside of any transaction, and recorded under its fence. Whoever loses
the lease on the way records nothing; what it brought to ingest is the same bytes, or belongs to nobody.
"""

import asyncio
import contextlib
import itertools
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors, leases, tracing
from kit.clients import Principal
from kit.failpoints import failpoint
from kit.leases import LeaseLost
from kit.roles import Role
from models.signature import Arrays, Prediction, Signature
from serving import actions
from serving.domain.batch_rows import Answer, Ask, Chunk, chunk_of, lines_of, part_of
from serving.domain.batches import ATTEMPTS, Batch, Column, Cut, Part, Phase, Pinned, signatures_of
from serving.domain.revisions import Target
from serving.replica.children import ModelNotReady as NotLoaded
from serving.replica.children import RunnerGone
from serving.replica.lanes import Overloaded
from serving.replica.packed import Packed
from serving.store.batches import BatchStore, PartStore
from serving.store.tables import batch_parts

log = logging.getLogger(__name__)
ROWS = Counter("trainyard_batch_rows_total", "Rows of batches that were worked on, also when that was in vain.")
TTL = timedelta(seconds=10)
"""How long a part waits whose process was killed."""
SOON, LATER = timedelta(seconds=2), timedelta(seconds=5)
FOLDER = "batches"
TURN = 0.005
"""Seconds that a chunk takes at most, as far as is known: so long may somebody wait online who comes meanwhile."""
USUAL, MOST = 64, 512
"""Rows of a chunk: of the first, and of any."""
LONGEST_CHUNK = 4 << 20
"""Bytes of a chunk, which at least has one row."""
AGAIN = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds until a model is asked again that has too much to do. Who asks online comes first."""
PASSING = (errors.Unavailable, errors.TooMany, errors.Unauthenticated)


class Asking(Protocol):
    """A model that can be asked."""

    async def predict(self, arrays: Arrays, rows: int) -> Prediction: ...


class Models(Protocol):
    """Knows models."""

    def borrow(self, project: str, targets: Sequence[Target]) -> AbstractAsyncContextManager[Sequence[Asking]]: ...


class Ingest(Protocol):
    """Has the rows, and keeps what becomes of them."""

    async def rows(self, principal: Principal, pinned: Pinned, cut: Cut, path: Path, *, largest: int) -> None: ...
    async def bring(self, principal: Principal, assembly: uuid.UUID, path: Path) -> str: ...


class Ending(Exception):
    """This process was asked to end: somebody else goes on."""


class PartWorker:
    """What every process that answers does with a part that it has leased."""

    def __init__(
        self,
        engine: AsyncEngine,
        models: Models,
        ingest: Ingest,
        work: Path,
        *,
        largest: int,
        stop: asyncio.Event,
        ttl: timedelta = TTL,
    ) -> None:
        """`largest`: bytes of the rows of a part."""
        self._engine = engine
        self._models = models
        self._ingest = ingest
        self._folder = work / FOLDER
        self._largest = largest
        self._stop = stop
        self._ttl = ttl

    def prepare(self) -> None:
        """An empty folder: what is in it was this process's own before it was killed."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)

    async def claim(self, limit: int) -> Sequence[leases.Lease]:
        """Parts that nobody works on."""
        if limit < 1 or self._stop.is_set():
            return []
        async with self._engine.begin() as connection:
            return await leases.lease_due(connection, batch_parts, limit, ttl=self._ttl)

    async def work(self, lease: leases.Lease) -> None:
        """One part, from its rows to its record."""
        of = lease.traceparent
        with tracing.quietly() if of is None else tracing.span("predict part", parent=of):
            await self._work(lease)

    async def _work(self, lease: leases.Lease) -> None:
        async with self._engine.begin() as connection:
            part = await PartStore(connection).begin(lease)
            batch = None if part is None else await BatchStore(connection).find(part.project, part.batch)
        if part is None or batch is None:
            return  # dropped, with its batch
        if part.attempts > ATTEMPTS:
            await self._lose(lease, part, f"The process that asked the model broke off {ATTEMPTS} times.")
            return
        try:
            async with leases.kept(self._engine, batch_parts, lease, ttl=self._ttl):
                await self._make(lease, batch, part)
        except LeaseLost:
            log.info("part given up", extra={"batch": str(part.batch), "first": part.cut.first})
        except (Ending, NotLoaded):
            await self._postpone(lease, part, timedelta(0) if self._stop.is_set() else SOON, uncounted=True)
        except errors.Error as exc:
            await self._failed(lease, part, exc)

    async def _failed(self, lease: leases.Lease, part: Part, exc: errors.Error) -> None:
        passing = isinstance(exc, PASSING) and not isinstance(exc, RunnerGone)
        said = {"batch": str(part.batch), "first": part.cut.first, "reason": exc.detail}
        log.warning("part postponed", extra=said)
        if passing:
            await self._postpone(lease, part, exc.retry_after or LATER, uncounted=True)
        elif part.attempts < ATTEMPTS and not isinstance(exc, errors.TooLarge):
            await self._postpone(lease, part, SOON)
        else:
            await self._lose(lease, part, exc.detail)

    async def _postpone(self, lease: leases.Lease, part: Part, due_in: timedelta, *, uncounted: bool = False) -> None:
        async with self._engine.begin() as connection:
            await PartStore(connection).postpone(lease, part, due_in, uncounted=uncounted)

    async def _lose(self, lease: leases.Lease, part: Part, message: str) -> None:
        async with self._engine.begin() as connection:
            if await PartStore(connection).lose(lease, part, message):
                await _tell(connection, part)

    async def _make(self, lease: leases.Lease, batch: Batch, part: Part) -> None:
        if batch.phase is not Phase.RUNNING or batch.pinned is None or batch.cancel_requested:
            raise Ending
        principal = Principal(batch.project, Role.EDITOR, batch.subject)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            source, target = Path(folder) / "rows", Path(folder) / "part"
            async with self._models.borrow(batch.project, batch.targets) as models:
                await self._ingest.rows(principal, batch.pinned, part.cut, source, largest=self._largest)
                refused = await self._predict(batch, part, models, source, target)
            failpoint("serving.part.before_bring")
            result = await self._ingest.bring(principal, batch.id, target)
            failpoint("serving.part.after_bring")
        async with self._engine.begin() as connection:
            if not await PartStore(connection).done(lease, part, result=result, refused=refused):
                raise LeaseLost
            await _tell(connection, part)
            failpoint("serving.part.before_commit")
        failpoint("serving.part.after_commit")

    async def _predict(self, batch: Batch, part: Part, models: Sequence[Asking], source: Path, target: Path) -> int:
        """Write what the models say of each row. How many have no answer."""
        signatures = signatures_of(batch.targets)
        weights = [it.weight for it in batch.targets]
        number, refused, size = part.cut.first, 0, USUAL
        with _opened(source) as file, contextlib.closing(Packed(target)) as packed:
            output = _Output(packed, batch, signatures)
            while lines := await asyncio.to_thread(_next, file, size):
                if self._stop.is_set():
                    raise Ending
                began = time.perf_counter()
                chunk = await asyncio.to_thread(chunk_of, lines, number, signatures, weights)
                answers = [await _answers(models[ask.target], signatures[ask.target], ask) for ask in chunk.asks]
                refused += await asyncio.to_thread(output.write, chunk, answers)
                number += len(lines)
                ROWS.inc(len(lines))
                seconds = time.perf_counter() - began
                size = max(1, min(MOST, 2 * size, int(TURN * len(lines) / seconds)))
        return refused


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _next(file: BinaryIO, count: int) -> list[bytes]:
    lines, size = [], 0
    for line in itertools.islice(file, count):
        lines.append(line)
        size += len(line)
        if size > LONGEST_CHUNK:
            break
    return lines


@dataclass(frozen=True)
class _Output:
    """Where the lines of a part go."""

    packed: Packed
    batch: Batch
    signatures: Sequence[Signature]

    def write(self, chunk: Chunk, answers: Sequence[Sequence[Answer]]) -> int:
        """How many of the rows have no answer."""
        pinned = self.batch.pinned
        columns: Sequence[Column] = () if pinned is None else pinned.columns
        scored = any(signature.scored for signature in self.signatures)
        lines, refused = lines_of(chunk, answers, columns, self.batch.targets, scored)
        self.packed.write(lines)
        return refused


async def _answers(model: Asking, signature: Signature, ask: Ask) -> list[Answer]:
    """What the model says of each row. A row that it cannot answer is found by halves, and says why."""
    try:
        return list(await _asked(model, signature, ask))
    except errors.Corrupt as exc:
        if ask.rows == 1:
            return [exc.detail]
    half = ask.rows // 2
    parts = [part_of(signature, ask, start, end) for start, end in ((0, half), (half, ask.rows))]
    return [answer for part in parts for answer in await _answers(model, signature, part)]


async def _asked(model: Asking, signature: Signature, ask: Ask) -> list[dict[str, object]]:
    for pause in itertools.chain(AGAIN, itertools.repeat(AGAIN[-1])):
        try:
            prediction = await model.predict(ask.arrays, ask.rows)
            return signature.answers_of(prediction)
        except Overloaded:
            await asyncio.sleep(pause)
    raise AssertionError("it never ends")  # pragma: no cover


async def _tell(connection: AsyncConnection, part: Part) -> None:
    await BatchStore(connection).wake(part.project, part.batch)
    await leases.hint(connection, actions.SERVICE)
