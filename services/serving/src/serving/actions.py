"""What a request or a reconciler does that needs more than one store: resolving references, putting, removing."""

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import audit, errors, events, leases
from kit.callers import Caller
from serving.domain.batches import Asked, Batch, NothingServed, signatures_of
from serving.domain.deployments import Deployment, Part, Reference
from serving.domain.limits import UNLIMITED, Limits
from serving.domain.revisions import Target, is_same, require_alike
from serving.store.batches import BatchStore
from serving.store.deployments import DeploymentStore

SERVICE = "serving"
REPLICAS = "serving_desired"
"""The channel on which replicas are told to look."""
PARTS = "serving_parts"
"""The channel on which they are told that parts of a batch wait."""
PREDICTIONS = "serving_predictions"
"""The channel on which they are told that requests wait which are answered later."""


class ModelNotFound(errors.Invalid):
    """A reference means no model version."""


class Resolver(Protocol):
    """Knows what references mean."""

    async def version(self, project: str, reference: Reference) -> dict[str, Any]: ...


async def resolve(registry: Resolver, project: str, models: Sequence[Part]) -> tuple[Target, ...]:
    """What the references mean at this moment.

    Raises:
        ModelNotFound, NotServable, SignaturesDiffer: nothing that can be served; `errors` names each place.
        errors.Unavailable: nobody can say just now.
    """
    targets: list[Target] = []
    for index, part in enumerate(models):
        pointer = f"#/models/{index}/model"
        try:
            found = await registry.version(project, Reference.of(part.model))
            targets.append(Target.of(found, part.weight))
        except errors.NotFound:
            detail = f"there is no model version {part.model}"
            raise ModelNotFound(
                f"There is no model version {part.model}.", errors=[{"pointer": pointer, "detail": detail}]
            ) from None
        except errors.Invalid as exc:
            exc.errors = exc.errors or [{"pointer": pointer, "detail": exc.detail}]
            raise
    require_alike(targets)
    return tuple(targets)


async def change_models(
    connection: AsyncConnection,
    caller: Caller,
    deployment: Deployment,
    models: Sequence[Part],
    now: Sequence[Target],
    *,
    limits: Limits | None = None,
    is_pinned: bool | None = None,
) -> Deployment:
    """Ask a deployment (locked) for models that mean `now`, and for limits, where None leaves them as they are.

    What is asked for already changes nothing.
    """
    limits = deployment.limits if limits is None else limits
    is_pinned = deployment.is_pinned if is_pinned is None else is_pinned
    is_as_limited = (limits, is_pinned) == (deployment.limits, deployment.is_pinned)
    if tuple(models) == deployment.models and is_as_limited:
        served = () if deployment.revision is None else deployment.revision.targets
        if is_same(now, served):
            return deployment
        # An alias has moved, and its event is still on its way: who waits must not be told of the model before.
        changed = await DeploymentStore(connection).begin_again(deployment)
    else:
        changed = await DeploymentStore(connection).change(deployment, models, limits=limits, is_pinned=is_pinned)
        detail = {"models": [part.model for part in models], "generation": changed.generation}
        if not is_as_limited:
            detail |= {"limits": limits.to_json(), "pinned": is_pinned}
            await leases.hint(connection, REPLICAS)
        await audit.record(connection, caller, "update", "deployment", deployment.name, detail)
    await leases.hint(connection, SERVICE)
    return changed


async def add(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    models: Sequence[Part],
    *,
    limits: Limits = UNLIMITED,
    is_pinned: bool = False,
) -> Deployment | None:
    """A new deployment; None when there is one of that name by now."""
    made = await DeploymentStore(connection).add(caller.project, name, models, limits=limits, is_pinned=is_pinned)
    if made is not None:
        detail: dict[str, Any] = {"models": [part.model for part in models]}
        if limits != UNLIMITED or is_pinned:
            detail |= {"limits": limits.to_json(), "pinned": is_pinned}
        await audit.record(connection, caller, "create", "deployment", name, detail)
        await leases.hint(connection, SERVICE)
    return made


async def remove(connection: AsyncConnection, caller: Caller, deployment: Deployment) -> None:
    """Stop serving the deployment (locked). What it holds is let go once nobody answers with it any more."""
    await DeploymentStore(connection).remove(deployment)
    await audit.record(connection, caller, "delete", "deployment", deployment.name, {})
    await events.emit(connection, deployment.project, "deployment.deleted", deployment.name, facts_of(deployment))
    for channel in (SERVICE, REPLICAS):
        await leases.hint(connection, channel)


def facts_of(deployment: Deployment) -> dict[str, Any]:
    """What events say of a deployment."""
    revision = None if deployment.revision is None else deployment.revision.number
    return {"deployment": deployment.name, "generation": deployment.generation, "revision": revision}


async def create_batch(connection: AsyncConnection, caller: Caller, name: str, asked: Asked, *, limit: int) -> Batch:
    """A batch on what the deployment is to serve now.

    Raises:
        DeploymentNotFound: there is none of that name.
        NothingServed: it has no revision yet.
        BatchUnfit: it takes what no dataset has.
        TooManyBatches: `limit` of the project are under way.
    """
    deployment = await DeploymentStore(connection).get(caller.project, name)
    if deployment.revision is None:
        raise NothingServed(f"Deployment {name[:100]} has no revision yet: {deployment.status.message}")
    signatures_of(deployment.revision.targets)
    store = BatchStore(connection)
    await store.require_room(caller.project, limit)
    batch = await store.add(deployment, caller.subject, asked)
    detail = {"deployment": name, "revision": batch.revision, "dataset": asked.dataset, "output": asked.output}
    await audit.record(connection, caller, "create", "batch", str(batch.id), detail)
    await leases.hint(connection, SERVICE)
    return batch


async def cancel_batch(connection: AsyncConnection, caller: Caller, name: str, batch_id: uuid.UUID) -> Batch:
    """
    Raises:
        BatchFinished: too late.
        BatchNotFound: there is none.
    """
    batch = await BatchStore(connection).request_cancel(caller.project, name, batch_id)
    await audit.record(connection, caller, "cancel", "batch", str(batch_id), {"deployment": name})
    await leases.hint(connection, SERVICE)
    return batch


async def delete_batch(connection: AsyncConnection, caller: Caller, name: str, batch_id: uuid.UUID) -> None:
    """
    Raises:
        BatchRunning: it has not ended.
        BatchNotFound: there is none.
    """
    await BatchStore(connection).request_delete(caller.project, name, batch_id)
    await audit.record(connection, caller, "delete", "batch", str(batch_id), {"deployment": name})
    await leases.hint(connection, SERVICE)
