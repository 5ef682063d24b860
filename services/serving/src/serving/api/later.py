"""Answer what was taken to be answered later: the same code that answers `predict`, and nobody who waits for it."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Message, Scope

from kit import errors, leases, problems, tracing
from kit.callers import Caller, Role
from kit.failpoints import failpoint
from kit.leases import LeaseLost
from serving.api import predict
from serving.api.state import Parts
from serving.domain.deployments import DeploymentNotFound
from serving.domain.predictions import ATTEMPTS, Later, PredictionLost
from serving.replica.children import RunnerGone
from serving.store.deployments import DeploymentStore
from serving.store.predictions import PredictionStore
from serving.store.tables import predictions

log = logging.getLogger(__name__)
TTL = timedelta(seconds=10)
SOON = timedelta(seconds=1)


class LaterWorker:
    """What every process that answers does with a request that it has leased."""

    def __init__(self, engine: AsyncEngine, parts: Parts, stop: asyncio.Event, *, ttl: timedelta = TTL) -> None:
        self._engine = engine
        self._parts = parts
        self._stop = stop
        self._ttl = ttl

    async def claim(self, limit: int) -> Sequence[leases.Lease]:
        """Requests that nobody answers, once this process can."""
        if limit < 1 or self._stop.is_set() or self._parts.replica.lacking() is not None:
            return []
        async with self._engine.begin() as connection:
            return await leases.lease_due(connection, predictions, limit, ttl=self._ttl)

    async def work(self, lease: leases.Lease) -> None:
        """One request, from its body to its answer."""
        of = lease.traceparent
        with tracing.quietly() if of is None else tracing.span("predict later", parent=of):
            async with self._engine.begin() as connection:
                begun = await PredictionStore(connection).begin(lease)
            if begun is None:
                return
            failpoint("serving.prediction.after_begun")
            try:
                async with leases.kept(self._engine, predictions, lease, ttl=self._ttl):
                    await self._answer(lease, *begun)
            except LeaseLost:
                log.info("prediction given up", extra={"prediction": str(lease.id)})

    async def _answer(self, lease: leases.Lease, later: Later, body: bytes) -> None:
        if later.attempts > ATTEMPTS:
            lost = PredictionLost(f"The process that asked the model broke off {ATTEMPTS} times.")
            await self._finish(lease, later, *problem_of(lost, later))
            return
        try:
            answer = await self._predict(later, body)
        except errors.Unavailable as exc:
            broke = isinstance(exc, RunnerGone)
            if broke and later.attempts >= ATTEMPTS:
                await self._finish(lease, later, *problem_of(exc, later))
            else:
                await self._postpone(lease, later, exc, counts=broke)
        except DeploymentNotFound as exc:
            if await self._is_there(later):  # and this process has not heard of it yet
                await self._postpone(lease, later, exc, counts=False)
            else:
                await self._finish(lease, later, *problem_of(exc, later))
        except Exception as exc:  # noqa: BLE001 - the edge of this work: whatever it is, it is the answer
            await self._finish(lease, later, *problem_of(exc, later))
        else:
            await self._finish(lease, later, 200, answer)

    async def _predict(self, later: Later, body: bytes) -> bytes:
        caller = Caller(later.project, Role.VIEWER, "later", "serving")
        state = {"parts": self._parts, "caller": caller, "request_id": later.request_id}
        scope: Scope = {"type": "http", "headers": [], "path_params": {"name": later.deployment}, "state": state}
        return await predict.answered(scope, _never, body, predict.arrays_of_json, predict.written_as_json)

    async def _is_there(self, later: Later) -> bool:
        async with self._engine.begin() as connection:
            return await DeploymentStore(connection).find(later.project, later.deployment) is not None

    async def _postpone(self, lease: leases.Lease, later: Later, exc: errors.Error, *, counts: bool) -> None:
        async with self._engine.begin() as connection:
            due_in = exc.retry_after or SOON
            await PredictionStore(connection).postpone(lease, later, due_in, exc.detail, counts=counts)

    async def _finish(self, lease: leases.Lease, later: Later, status: int, answer: bytes) -> None:
        failpoint("serving.prediction.before_recorded")
        async with self._engine.begin() as connection:
            if not await PredictionStore(connection).finish(lease, later, status, answer):
                raise LeaseLost
        failpoint("serving.prediction.after_recorded")


async def _never() -> Message:
    """Nobody leaves who is not there."""
    await asyncio.Event().wait()
    raise AssertionError("nothing ever comes")  # pragma: no cover


def problem_of_lost(age: timedelta) -> tuple[int, bytes]:
    """What is said of a request that nobody could answer for so long."""
    status, _, body = problems.problem_of(PredictionLost(f"Nobody could answer within {age}."))
    return status, body


def problem_of(exc: Exception, later: Later) -> tuple[int, bytes]:
    """What `predict` would have answered."""
    status, _, body = problems.problem_of(exc, later.request_id)
    return status, body
