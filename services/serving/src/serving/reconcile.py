"""Bring every deployment to ready or failed: resolve its references, hold what they mean, wait for the replicas."""

import logging
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors, events, leases
from kit.events import Event
from kit.failpoints import failpoint
from serving import actions
from serving.domain.deployments import Deployment, Phase, Reason, Reference, Status
from serving.domain.observations import in_use, status_of
from serving.domain.revisions import NotServable, SignaturesDiffer, Target, is_same
from serving.store.deployments import DeploymentStore
from serving.store.held import HeldStore
from serving.store.replicas import ReplicaStore
from serving.store.tables import deployments

log = logging.getLogger(__name__)
TTL = timedelta(seconds=30)
SOON = timedelta(seconds=2)
"""Until the next look at what is under way. What happens meanwhile is told; this is for what gets lost."""
LATER = timedelta(seconds=60)
"""Until the next look at what is settled."""
AGAIN = timedelta(minutes=5)
"""When what was let go is let go once more: a replica that stalled past its lease may have held it late."""
REFUSED: dict[type[errors.Error], Reason] = {
    actions.ModelNotFound: Reason.MODEL_NOT_FOUND,
    NotServable: Reason.NOT_SERVABLE,
    SignaturesDiffer: Reason.SIGNATURES_DIFFER,
}


class Registry(Protocol):
    """Where models are."""

    async def version(self, project: str, reference: Reference) -> dict[str, Any]: ...
    async def hold(self, project: str, ref: str, holder: str) -> None: ...
    async def release(self, project: str, ref: str, holder: str) -> None: ...


class Reconciler:
    """What every replica does with a deployment that it has leased."""

    def __init__(self, engine: AsyncEngine, registry: Registry, *, again: timedelta = AGAIN) -> None:
        self._engine = engine
        self._registry = registry
        self._again = again

    async def reconcile(self, lease: leases.Lease) -> None:
        async with self._engine.begin() as connection:
            deployment = await DeploymentStore(connection).find_by_id(lease.project, lease.id)
        if deployment is None:
            return
        if deployment.removed_at is not None:
            await self._take_down(lease, deployment)
            return
        # No transaction is open here: the registry may take seconds to answer.
        try:
            targets = await actions.resolve(self._registry, deployment.project, deployment.models)
            if deployment.revision is None or not is_same(targets, deployment.revision.targets):
                await self._revise(lease, deployment, targets)
            else:
                await self._observe(lease, deployment)
        except errors.Unavailable as exc:
            await self._wait(lease, deployment, Reason.REGISTRY_UNAVAILABLE, exc.detail)
        except errors.Error as exc:
            reason = next((REFUSED[kind] for kind in type(exc).__mro__ if kind in REFUSED), Reason.NOT_SERVABLE)
            await self._settle(lease, deployment, Status(Phase.FAILED, reason, exc.detail))

    async def _revise(self, lease: leases.Lease, deployment: Deployment, targets: Sequence[Target]) -> None:
        """Hold what the references mean by now, and make it the revision to serve."""
        refs = {target.reference for target in targets}
        await self._hold(deployment, refs)
        failpoint("serving.revision.before_commit")
        async with self._engine.begin() as connection:
            made = await DeploymentStore(connection).revise(lease, deployment, targets)
            if made is not None:
                await leases.hint(connection, actions.REPLICAS)
            await leases.hint(connection, actions.SERVICE)
        failpoint("serving.revision.after_commit")
        if made is not None:
            said = {"deployment": deployment.name, "revision": made.number, "models": sorted(refs)}
            log.info("revised", extra=said)

    async def _hold(self, deployment: Deployment, refs: Collection[str]) -> None:
        async with self._engine.begin() as connection:
            await HeldStore(connection, deployment).intend(refs)
        for ref in sorted(refs):
            try:
                await self._registry.hold(deployment.project, ref, deployment.holder)
            except errors.NotFound:
                raise actions.ModelNotFound(f"There is no model version {ref} any more.") from None

    async def _observe(self, lease: leases.Lease, deployment: Deployment) -> None:
        """The revision is what was asked for: see how far the replicas are, and let go of what nobody serves."""
        assert deployment.revision is not None
        refs = {target.reference for target in deployment.revision.targets}
        async with self._engine.begin() as connection:
            observed = await ReplicaStore(connection).observed(deployment)
            lacking = await HeldStore(connection, deployment).lacking(refs)
        if lacking:
            # A replica that stalled past its lease has let go late of what is needed again.
            await self._hold(deployment, lacking)
        status = status_of(deployment, observed)
        if deployment.status.phase is Phase.READY and status.phase is Phase.PENDING:
            # A replica that starts takes no requests yet: the deployment answers as it did.
            status = deployment.status
        if status.phase is not Phase.PENDING:
            await self._release(lease, deployment)
        await self._settle(lease, deployment, status)

    async def _settle(self, lease: leases.Lease, deployment: Deployment, status: Status) -> None:
        failpoint("serving.status.before_commit")
        async with self._engine.begin() as connection:
            due_in = SOON if status.phase is Phase.PENDING else LATER
            recorded = await DeploymentStore(connection).record(lease, deployment, status, due_in=due_in)
            news = (status, deployment.generation) != (deployment.status, deployment.observed_generation)
            if recorded and news and status.phase is not Phase.PENDING:
                await _tell(connection, deployment, status)
        failpoint("serving.status.after_commit")
        if recorded and news:
            said = {"deployment": deployment.name, "phase": status.phase, "reason": status.reason}
            log.info("settled", extra=said)

    async def _wait(self, lease: leases.Lease, deployment: Deployment, reason: Reason, message: str) -> None:
        """What is served goes on; what is not yet has to wait for somebody else."""
        async with self._engine.begin() as connection:
            store = DeploymentStore(connection)
            if deployment.status.phase is Phase.PENDING:
                await store.record(lease, deployment, Status(Phase.PENDING, reason, message), due_in=SOON)
            else:
                await store.postpone(lease, deployment, SOON)

    async def _take_down(self, lease: leases.Lease, deployment: Deployment) -> None:
        try:
            await self._release(lease, deployment)
        except errors.Unavailable as exc:
            log.info("not let go yet", extra={"deployment": deployment.name, "reason": exc.detail})
        async with self._engine.begin() as connection:
            held, released = await HeldStore(connection, deployment).count()
            store = DeploymentStore(connection)
            if held or released or not await store.forget(lease, deployment):
                await store.postpone(lease, deployment, SOON if held else LATER)

    async def _release(self, lease: leases.Lease, deployment: Deployment) -> None:
        """Let go of the model versions that this deployment needs no more, at no replica."""
        async with self._engine.begin() as connection:
            observed = await ReplicaStore(connection).observed(deployment)
            numbers = in_use(deployment, observed)
            keep = await DeploymentStore(connection).references(deployment, numbers)
            refs = await HeldStore(connection, deployment).to_release(keep, again_after=self._again)
        for ref in refs:
            async with self._engine.begin() as connection:
                # Whoever has the deployment by now may need what nobody needed when we looked.
                if not await leases.extend(connection, deployments, lease, ttl=TTL):
                    return
            await self._registry.release(deployment.project, ref, deployment.holder)
            async with self._engine.begin() as connection:
                await HeldStore(connection, deployment).released(ref)


async def _tell(connection: AsyncConnection, deployment: Deployment, status: Status) -> None:
    facts = actions.facts_of(deployment) | ({"reason": status.reason} if status.reason else {})
    await events.emit(connection, deployment.project, f"deployment.{status.phase}", deployment.name, facts)


async def apply(connection: AsyncConnection, happened: Sequence[Event]) -> None:
    """What happened at the registry may change what references mean."""
    for event in happened:
        if event.kind.startswith("model.") and isinstance(model := event.data.get("model"), str):
            await DeploymentStore(connection).nudge_users_of(event.project, model, trace=event.traceparent)
    await leases.hint(connection, actions.SERVICE)
