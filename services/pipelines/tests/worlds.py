"""A pipelines service over a real database, with its neighbours in memory."""

import asyncio
import contextlib
import copy
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from neighbours import Ingest, Neighbour, Registry, Serving, Trainer
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases, reconcile
from kit.callers import Caller, Role
from kit.clients import ServiceClient
from kit.testing import KeyFolder, eventually
from kit.tokens import load_signer
from pipelines import actions
from pipelines.clients.ingest import IngestClient
from pipelines.clients.registry import RegistryClient
from pipelines.clients.serving import ServingClient
from pipelines.clients.trainer import TrainerClient
from pipelines.domain.expressions import Verdict
from pipelines.domain.runs import FINAL, Run
from pipelines.domain.steps import Step
from pipelines.kinds.doing import Neighbours
from pipelines.reconcile import TTL, Reconciler
from pipelines.store.pipelines import PipelineStore
from pipelines.store.runs import RunStore
from pipelines.store.steps import StepStore
from pipelines.store.tables import steps

UPLOAD = "sha256:" + "a" * 64
OTHER_UPLOAD = "sha256:" + "b" * 64
ADA = Caller("blue", Role.ADMIN, "ada", "gateway")

INGEST: dict[str, Any] = {
    "kind": "ingest",
    "with": {"dataset": "flights", "upload": "${{ parameters.upload }}", "settings": {"nulls": ["NA"]}},
}
TRAIN: dict[str, Any] = {
    "kind": "train",
    "needs": ["ingest"],
    "with": {
        "dataset": "${{ steps.ingest.outputs.reference }}",
        "task": "classification",
        "target": "late",
        "estimator": {"class": "sklearn.tree.DecisionTreeClassifier", "parameters": {"max_depth": 3}},
        "register": {"model": "delays"},
    },
}
GATE: dict[str, Any] = {
    "kind": "gate",
    "needs": ["train"],
    "with": {"require": ["steps.train.outputs.metrics.roc_auc > parameters.minimum_auc"]},
}
PROMOTE: dict[str, Any] = {
    "kind": "promote",
    "needs": ["train", "gate"],
    "with": {"model": "delays", "version": "${{ steps.train.outputs.version }}", "alias": "champion"},
}
DEPLOY: dict[str, Any] = {
    "kind": "deploy",
    "needs": ["promote"],
    "with": {"deployment": "delays", "model": "delays@champion"},
}


def main_job(**changes: Any) -> dict[str, Any]:
    """ingest → train → gate → promote → deploy; changes are merged into the steps that they name."""
    steps_ = {"ingest": INGEST, "train": TRAIN, "gate": GATE, "promote": PROMOTE, "deploy": DEPLOY}
    document: dict[str, Any] = copy.deepcopy({"parameters": {"upload": UPLOAD, "minimum_auc": 0.6}, "steps": steps_})
    for name, change in changes.items():
        step = document["steps"][name]
        step |= {member: value for member, value in change.items() if member != "with"}
        step["with"] |= change.get("with", {})
    return document


def pipeline_of(parameters: Mapping[str, Any] | None = None, **steps_: Mapping[str, Any]) -> dict[str, Any]:
    return {"parameters": dict(parameters or {}), "steps": {name: dict(step) for name, step in steps_.items()}}


class Expressions:
    """CEL for tests that are about something else: what is written is looked up here."""

    def __init__(self) -> None:
        self.said: dict[str, Verdict] = {}
        self.data: list[Mapping[str, Any]] = []

    async def evaluate(self, expressions: Sequence[str], data: Mapping[str, Any]) -> list[Verdict]:
        self.data.append(data)
        return [self.said.get(expression, Verdict(True)) for expression in expressions]


class World:
    """Everything that a run needs."""

    def __init__(self, engine: AsyncEngine, keys: KeyFolder) -> None:
        self.engine = engine
        self.ingest = Ingest()
        self.registry = Registry()
        self.trainer = Trainer(self.registry)
        self.serving = Serving(self.registry)
        self.expressions = Expressions()
        self._signer = load_signer(keys.private("pipelines"))
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "World":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def neighbours(self) -> Neighbours:
        async def client(of: Neighbour) -> ServiceClient:
            return ServiceClient(await self._stack.enter_async_context(of.http()), self._signer, of.name)

        return Neighbours(
            IngestClient(await client(self.ingest)),
            TrainerClient(await client(self.trainer)),
            RegistryClient(await client(self.registry)),
            ServingClient(await client(self.serving)),
            self.expressions,
        )

    async def start(
        self, definition: Mapping[str, Any], parameters: Mapping[str, Any] | None = None, *, caller: Caller = ADA
    ) -> uuid.UUID:
        async with self.engine.begin() as connection:
            store = PipelineStore(connection)
            found = await store.find(caller.project, "p")
            if found is None:
                await store.add(caller.project, "p", definition)
            else:
                await actions.change_pipeline(connection, caller, found, definition)
            return (await actions.start_run(connection, caller, "p", parameters or {})).id

    async def run(self, run_id: uuid.UUID, project: str = "blue") -> Run:
        async with self.engine.begin() as connection:
            return await RunStore(connection).get(project, run_id)

    async def steps(self, run_id: uuid.UUID, project: str = "blue") -> dict[str, Step]:
        async with self.engine.begin() as connection:
            found = await StepStore(connection).of_run(project, run_id)
        return {step.spec.name: step for step in found}

    async def phases(self, run_id: uuid.UUID) -> dict[str, str]:
        return {name: step.phase.value for name, step in (await self.steps(run_id)).items()}

    async def cancel(self, run_id: uuid.UUID) -> None:
        async with self.engine.begin() as connection:
            await actions.cancel_run(connection, ADA, run_id)

    async def resume(self, run_id: uuid.UUID) -> None:
        async with self.engine.begin() as connection:
            await actions.resume_run(connection, ADA, run_id)

    async def lease(self, limit: int = 10, ttl: timedelta = TTL) -> Sequence[leases.Lease]:
        async with self.engine.begin() as connection:
            return await leases.lease_due(connection, steps, limit, ttl=ttl)

    async def expire(self) -> None:
        """All leases have run out, and everything that waits for a time is due."""
        async with self.engine.begin() as connection:
            past = sa.func.clock_timestamp() - timedelta(seconds=1)
            await connection.execute(
                sa.update(steps).where(steps.c.due_at.is_not(None)).values(due_at=past, lease_until=None)
            )

    async def worker(self, **given: Any) -> Reconciler:
        return Reconciler(self.engine, await self.neighbours(), **given)

    async def once(self, worker: Reconciler | None = None) -> int:
        """Reconcile what is due, once. Says how much that was."""
        worker = worker or await self.worker()
        leased = await self.lease()
        for lease in leased:
            await worker.reconcile(lease)
        return len(leased)

    async def settle(self, run_id: uuid.UUID) -> Run:
        """Reconcile until the run has ended; nothing waits for a clock."""
        worker = await self.worker()

        async def over() -> Run | None:
            await self.once(worker)
            await self.expire()
            run = await self.run(run_id)
            return run if run.phase in FINAL else None

        found = await eventually(over)
        assert found is not None
        return found

    @contextlib.asynccontextmanager
    async def at_work(self, replicas: int = 1, **given: Any) -> AsyncIterator[asyncio.Event]:
        """Replicas of the real loop, until the block ends. Yields what wakes them all."""
        stop, wakeup = asyncio.Event(), asyncio.Event()
        workers = [await self.worker(**given) for _ in range(replicas)]
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(
                    reconcile.controller(
                        self.engine, steps, worker.reconcile, ttl=TTL, poll=0.05, wakeup=wakeup, stop=stop
                    )
                )
            yield wakeup
            stop.set()
