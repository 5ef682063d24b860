"""Batches without processes: replicas that take turns, each with models and a fake ingest."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ingests import Ingest
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import Trained, trained

from kit import leases
from kit.callers import Caller, Role
from models.onnx_models import OnnxModel
from models.signature import Arrays, Prediction
from serving import actions
from serving.batching import BatchReconciler
from serving.domain.batches import Asked, Batch, Progress
from serving.domain.deployments import Part as Wanted
from serving.domain.revisions import File, Target
from serving.replica.batches import PartWorker
from serving.store.batches import BatchStore
from serving.store.deployments import DeploymentStore
from serving.store.tables import batch_parts, batches, deployments

ADA = Caller("demo", Role.EDITOR, "ada", "gateway")
TTL = timedelta(seconds=5)


class Model:
    """A real model; what happens before it answers is a test's."""

    def __init__(self, made: Trained) -> None:
        self.signature = made.signature
        self.model = OnnxModel(made.files["onnx"], made.signature)
        self.asked: list[int] = []
        self.before: list[Exception] = []

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        self.asked.append(rows)
        await asyncio.sleep(0)
        if self.before:
            raise self.before.pop()
        return self.model.predict(arrays)


class Models:
    def __init__(self) -> None:
        self.of: dict[int, Any] = {}
        """By the version of the model."""

    @contextlib.asynccontextmanager
    async def borrow(self, project: str, targets: Sequence[Target]) -> AsyncIterator[list[Any]]:
        yield [self.of[target.version] for target in targets]


class Registry:
    def __init__(self) -> None:
        self.holds: set[tuple[str, str]] = set()
        self.before: list[Exception] = []

    async def hold(self, project: str, ref: str, holder: str) -> None:
        if self.before:
            raise self.before.pop()
        self.holds.add((ref, holder))

    async def release(self, project: str, ref: str, holder: str) -> None:
        self.holds.discard((ref, holder))


@dataclass
class World:
    engine: AsyncEngine
    work: Path
    ingest: Ingest = field(default_factory=Ingest)
    registry: Registry = field(default_factory=Registry)
    models: Models = field(default_factory=Models)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def worker(self, name: str = "one", ttl: timedelta = TTL) -> PartWorker:
        worker = PartWorker(
            self.engine,
            self.models,
            self.ingest,
            self.work / name,
            largest=1 << 30,
            stop=self.stop,
            ttl=ttl,
        )
        worker.prepare()
        return worker

    def reconciler(self) -> BatchReconciler:
        return BatchReconciler(self.engine, self.ingest, self.registry, ttl=TTL)

    async def deploy(self, *weights: int, made: Sequence[Trained] = ()) -> None:
        """A deployment `late`, whose models are late@1, late@2 … by weight."""
        weights = weights or (100,)
        made = made or [trained(seed=seed) for seed in range(len(weights))]
        targets = [
            _target(number, weight, it) for number, (weight, it) in enumerate(zip(weights, made, strict=True), 1)
        ]
        self.models.of = {number: Model(it) for number, it in enumerate(made, 1)}
        async with self.engine.begin() as connection:
            store = DeploymentStore(connection)
            added = await store.add("demo", "late", [Wanted("late", 100)])
            assert added is not None
            [lease] = await leases.lease_due(connection, deployments, 1, ttl=TTL)
            assert await store.revise(lease, added, targets) is not None

    async def begin(self, **asked: Any) -> Batch:
        wanted = Asked(**{"dataset": "flights@1", "output": "answers"} | asked)
        async with self.engine.begin() as connection:
            return await actions.create_batch(connection, ADA, "late", wanted, limit=100)

    async def under_way(self) -> Batch:
        """One that is pinned, begun and cut into parts."""
        batch = await self.begin()
        for _ in range(2):
            await self.look()
        return batch

    async def seen(self, batch: Batch) -> tuple[Batch, Progress]:
        async with self.engine.begin() as connection:
            store = BatchStore(connection)
            found = await store.find(batch.project, batch.id)
            assert found is not None
            return found, (await store.progress([found]))[batch.id]

    async def look(self) -> int:
        """Reconcile what is due of batches. Says how many."""
        async with self.engine.begin() as connection:
            await leases.wake(connection, batches, batches.c.due_at.is_not(None))
            due = await leases.lease_due(connection, batches, 10, ttl=TTL)
        for lease in due:
            await self.reconciler().reconcile(lease)
        return len(due)

    async def claim(self, worker: PartWorker, limit: int = 1) -> Sequence[leases.Lease]:
        async with self.engine.begin() as connection:
            await leases.wake(connection, batch_parts, batch_parts.c.due_at.is_not(None))
        return await worker.claim(limit)

    async def finish(self, worker: PartWorker | None = None) -> None:
        """Until nothing is due any more."""
        worker = worker or self.worker()
        for _ in range(100):
            looked = await self.look()
            parts = await self.claim(worker, 100)
            for lease in parts:
                await worker.work(lease)
            if not looked and not parts:
                return
        raise AssertionError("it does not come to an end")


def _target(number: int, weight: int, made: Trained) -> Target:
    signature = made.signature.to_json()
    file = File("onnx", "model.onnx", "sha256:" + f"{number:x}" * 64, 1)
    digest = "sha256:" + f"{number:x}" * 64
    return Target(model="late", version=number, digest=digest, weight=weight, file=file, signature=signature)
