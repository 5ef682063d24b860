"""Bring every batch to its end: pin what it is about, wait for its parts, have the result made, let go of it all."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, assert_never

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import errors, events, leases, tracing
from kit.clients import Principal
from kit.db import NOW
from kit.failpoints import failpoint
from kit.leases import LeaseLost
from kit.roles import Role
from serving import actions
from serving.clients.ingest import FAILED, READY, VersionSeen
from serving.domain import batch_steps as steps
from serving.domain.batch_steps import next_step
from serving.domain.batches import (
    FINAL,
    MOST_PARTS,
    PART_ROWS,
    Batch,
    BatchUnfit,
    Cut,
    Phase,
    Pinned,
    Progress,
    Reason,
    Result,
    Shard,
    Why,
    carried,
    cuts_of,
    require_fit,
    settings_of,
)
from serving.store.batches import BatchStore, PartStore
from serving.store.tables import batches

log = logging.getLogger(__name__)
TTL = timedelta(seconds=10)
NOW_DUE, SOON, LATER = timedelta(0), timedelta(seconds=1), timedelta(seconds=10)
PASSING = (errors.Unavailable, errors.TooMany, errors.Unauthenticated)
ENDED = Counter("trainyard_batches_total", "Batches that ended.", ["phase", "reason"])
WAITING = Why(Reason.WAITING_FOR_DATASET, "The dataset version is not ready yet.")
GONE_HINT = "List the versions of the dataset."
UNFIT_HINT = "See `schema` of the dataset version, and the model's signature."
WRITING = Why(Reason.WRITING_RESULT, "The result is being made.")


class Ingest(Protocol):
    """Has datasets."""

    async def version(self, principal: Principal, reference: str) -> VersionSeen: ...
    async def hold(self, principal: Principal, reference: str, holder: str) -> None: ...
    async def release(self, principal: Principal, reference: str, holder: str) -> None: ...
    async def shards(self, principal: Principal, pinned: Pinned) -> Sequence[Shard]: ...
    async def assemble(self, principal: Principal, assembly: Any, wanted: dict[str, Any]) -> VersionSeen: ...
    async def give_up(self, principal: Principal, assembly: Any) -> None: ...


class Registry(Protocol):
    """Has models."""

    async def hold(self, project: str, ref: str, holder: str) -> None: ...
    async def release(self, project: str, ref: str, holder: str) -> None: ...


class BatchReconciler:
    """What every replica does with a batch that it has leased."""

    def __init__(self, engine: AsyncEngine, ingest: Ingest, registry: Registry, *, ttl: timedelta = TTL) -> None:
        self._engine = engine
        self._ingest = ingest
        self._registry = registry
        self._ttl = ttl

    async def reconcile(self, lease: leases.Lease) -> None:
        async with self._engine.begin() as connection:
            batch = await BatchStore(connection).find(lease.project, lease.id)
            progress = {} if batch is None else await BatchStore(connection).progress([batch])
        if batch is None:
            return  # forgotten since
        step = next_step(batch, progress[batch.id])
        tracing.note(step=type(step).__name__.lower())
        try:
            async with leases.kept(self._engine, batches, lease, ttl=self._ttl):
                await self._act(lease, batch, progress[batch.id], step)
        except LeaseLost:
            log.info("batch given up", extra={"batch": str(batch.id), "step": type(step).__name__})
        except errors.Error as exc:
            await self._postpone(lease, batch, exc)

    async def _postpone(self, lease: leases.Lease, batch: Batch, exc: errors.Error) -> None:
        """Whatever a neighbour said that nobody expected: it is shown, and asked again."""
        passing = isinstance(exc, PASSING)
        level = logging.INFO if passing else logging.ERROR
        log.log(level, "batch postponed", extra={"batch": str(batch.id), "error": exc.detail})
        why = None if batch.phase in FINAL else Why(batch.why.reason, exc.detail)
        due_in = exc.retry_after or (SOON if passing else LATER)
        await self._record(lease, batch, due_in=due_in, why=why)

    async def _record(self, lease: leases.Lease, batch: Batch, *, due_in: timedelta | None, **values: Any) -> None:
        async with self._engine.begin() as connection:
            await BatchStore(connection).record(lease, batch, due_in=due_in, **values)

    async def _act(self, lease: leases.Lease, batch: Batch, progress: Progress, step: steps.Step) -> None:
        match step:
            case steps.Pin():
                await self._pin(lease, batch)
            case steps.Begin():
                await self._begin(lease, batch)
            case steps.Commit():
                await self._record(lease, batch, due_in=NOW_DUE, why=WRITING, is_writing=True)
                failpoint("serving.batch.after_writing")
            case steps.Write():
                await self._write(lease, batch, progress)
            case steps.Settle(phase=phase, why=why):
                await self._settle(lease, batch, progress, phase, why)
            case steps.Clean():
                await self._clean(lease, batch)
            case steps.Remove():
                # Once more: a replica that stalled past its lease may have held something late.
                await self._let_go(batch)
                async with self._engine.begin() as connection:
                    await BatchStore(connection).forget(lease)
            case steps.Wait():
                tracing.skip()
                await self._record(lease, batch, due_in=None if batch.phase in FINAL else LATER)
            case _:
                assert_never(step)

    async def _pin(self, lease: leases.Lease, batch: Batch) -> None:
        try:
            seen = await self._ingest.version(_principal(batch), batch.asked.dataset)
            if seen.phase == FAILED:
                why = Why(Reason.DATASET_FAILED, f"The dataset version has failed: {seen.message}")
                await self._fail(lease, batch, why)
                return
            if seen.digest is None:
                await self._record(lease, batch, due_in=SOON, why=WAITING)
                return
            require_fit(batch.targets, seen.columns)
            pinned = Pinned(seen.reference, seen.digest, carried(seen.columns, batch.asked))
        except errors.NotFound as exc:
            await self._fail(lease, batch, Why(Reason.DATASET_NOT_FOUND, exc.detail, GONE_HINT))
        except BatchUnfit as exc:
            await self._fail(lease, batch, Why(Reason.DATASET_UNFIT, exc.detail, UNFIT_HINT))
        else:
            await self._record(lease, batch, due_in=NOW_DUE, pinned=pinned.to_json())
            failpoint("serving.batch.after_pinned")

    async def _begin(self, lease: leases.Lease, batch: Batch) -> None:
        assert batch.pinned is not None
        principal = _principal(batch)
        try:
            await self._ingest.hold(principal, batch.pinned.reference, batch.holder)
            cuts = _cuts(await self._ingest.shards(principal, batch.pinned), batch.asked.split)
        except errors.NotFound as exc:
            await self._fail(lease, batch, Why(Reason.DATASET_NOT_FOUND, exc.detail, GONE_HINT))
            return
        except BatchUnfit as exc:
            await self._fail(lease, batch, Why(Reason.DATASET_UNFIT, exc.detail, UNFIT_HINT))
            return
        try:
            for ref in batch.references:
                await self._registry.hold(batch.project, ref, batch.holder)
        except errors.NotFound as exc:
            hint = "The deployment serves another model by now: begin another batch."
            await self._fail(lease, batch, Why(Reason.MODEL_NOT_FOUND, exc.detail, hint))
            return
        failpoint("serving.batch.before_begun")
        async with self._engine.begin() as connection:
            rows = sum(cut.rows for cut in cuts)
            why = Why(Reason.PREDICTING, f"{rows} rows in {len(cuts)} parts.")
            values = {"phase": Phase.RUNNING, "rows": rows, "started_at": NOW}
            if await BatchStore(connection).record(lease, batch, due_in=LATER, why=why, **values):
                await PartStore(connection).add(batch, cuts)
                await leases.hint(connection, actions.PARTS)
        failpoint("serving.batch.after_begun")

    async def _fail(self, lease: leases.Lease, batch: Batch, why: Why) -> None:
        """Before it has begun."""
        await self._settle(lease, batch, Progress(), Phase.FAILED, why)

    async def _write(self, lease: leases.Lease, batch: Batch, progress: Progress) -> None:
        """Have one version made of all parts: ingest makes it once, however often it is asked."""
        async with self._engine.begin() as connection:
            parts = await PartStore(connection).results(batch)
        wanted = {
            "dataset": batch.asked.output,
            "parts": parts,
            "format": "ndjson",
            "compression": "gzip",
            "settings": settings_of(batch),
            "lineage": batch.lineage,
        }
        try:
            seen = await self._ingest.assemble(_principal(batch), batch.id, wanted)
        except (errors.NotFound, errors.Invalid, errors.TooLarge) as exc:
            await self._settle(lease, batch, progress, Phase.FAILED, Why(Reason.RESULT_REFUSED, exc.detail))
            return
        failpoint("serving.batch.after_assembled")
        if seen.phase == FAILED:
            why = Why(Reason.RESULT_REFUSED, f"Ingest refused {seen.reference}: {seen.message}")
            await self._settle(lease, batch, progress, Phase.FAILED, why)
        elif seen.phase == READY and seen.digest is not None:
            result = Result(seen.reference, seen.digest)
            await self._settle(lease, batch, progress, Phase.SUCCEEDED, Why(), result)
        else:
            await self._record(
                lease, batch, due_in=SOON, why=Why(Reason.WRITING_RESULT, f"{seen.reference} is parsed.")
            )

    async def _settle(
        self,
        lease: leases.Lease,
        batch: Batch,
        progress: Progress,
        phase: Phase,
        why: Why,
        result: Result | None = None,
    ) -> None:
        """The end of the batch, for good, and of whatever still works on its parts."""
        values = {"phase": phase, "finished_at": NOW, "rows_done": progress.rows_done, "refused": progress.refused}
        if result is not None:
            values["result"] = {"reference": result.reference, "digest": result.digest}
        async with self._engine.begin() as connection:
            if not await BatchStore(connection).record(lease, batch, due_in=NOW_DUE, why=why, **values):
                raise LeaseLost
            await PartStore(connection).drop(batch)
            facts = {"batch": str(batch.id), "deployment": batch.deployment, "revision": batch.revision}
            facts |= {"reason": why.reason} if why.reason else {}
            facts |= {"dataset": result.reference} if result else {}
            await events.emit(connection, batch.project, f"batch.{phase}", str(batch.id), facts)
            failpoint("serving.batch.before_settled")
        ENDED.labels(phase, why.reason).inc()
        log.info("batch ended", extra={"batch": str(batch.id), "phase": phase, "reason": why.reason})
        failpoint("serving.batch.after_settled")

    async def _clean(self, lease: leases.Lease, batch: Batch) -> None:
        await self._let_go(batch)
        failpoint("serving.batch.before_clean")
        await self._record(lease, batch, due_in=NOW_DUE, is_clean=True)

    async def _let_go(self, batch: Batch) -> None:
        """Of all that may be held, at whatever point the batch ended."""
        principal = _principal(batch)
        if batch.phase is not Phase.SUCCEEDED:
            await self._ingest.give_up(principal, batch.id)
        if batch.pinned is not None:
            await self._ingest.release(principal, batch.pinned.reference, batch.holder)
        for ref in batch.references:
            await self._registry.release(batch.project, ref, batch.holder)


def _cuts(shards: Sequence[Shard], split: str | None) -> list[Cut]:
    cuts = list(cuts_of(shards, split))
    if not cuts:
        raise BatchUnfit(f"The dataset version has no rows{f' in its split {split}' if split else ''}.")
    if len(cuts) > MOST_PARTS:
        raise BatchUnfit(f"A batch is about {MOST_PARTS * PART_ROWS} rows at most.")
    return cuts


def _principal(batch: Batch) -> Principal:
    return Principal(batch.project, Role.EDITOR, batch.subject)
