"""What a request or a reconciler does that needs more than one store: resolving references, putting, removing."""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import audit, errors, events, leases
from kit.callers import Caller
from serving.domain.deployments import Deployment, Part, Reference
from serving.domain.revisions import Target, is_same, require_alike
from serving.store.deployments import DeploymentStore

SERVICE = "serving"
REPLICAS = "serving_desired"
"""The channel on which replicas are told to look."""


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
    connection: AsyncConnection, caller: Caller, deployment: Deployment, models: Sequence[Part], now: Sequence[Target]
) -> Deployment:
    """Ask a deployment (locked) for models that mean `now`. What is asked for already changes nothing."""
    if tuple(models) == deployment.models:
        served = () if deployment.revision is None else deployment.revision.targets
        if is_same(now, served):
            return deployment
        # An alias has moved, and its event is still on its way: who waits must not be told of the model before.
        changed = await DeploymentStore(connection).begin_again(deployment)
    else:
        changed = await DeploymentStore(connection).change(deployment, models)
        detail = {"models": [part.model for part in models], "generation": changed.generation}
        await audit.record(connection, caller, "update", "deployment", deployment.name, detail)
    await leases.hint(connection, SERVICE)
    return changed


async def add(connection: AsyncConnection, caller: Caller, name: str, models: Sequence[Part]) -> Deployment | None:
    """A new deployment; None when there is one of that name by now."""
    made = await DeploymentStore(connection).add(caller.project, name, models)
    if made is not None:
        detail = {"models": [part.model for part in models]}
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
