"""What replicas say of a deployment, and what that makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from serving.domain.deployments import Deployment, Phase, Reason, Status


@dataclass(frozen=True)
class Observation:
    """What one replica says of one deployment."""

    tried: int | None = None
    """The revision that it was last told to serve."""
    serving: int | None = None
    """The revision that answers there."""
    reason: Reason = Reason.NONE
    """Why it could not load what it was told to serve."""
    message: str = ""


NOTHING = Observation()
"""Of a replica that has not heard of the deployment yet."""


def status_of(deployment: Deployment, observed: Sequence[Observation]) -> Status:
    """How far the deployment's revision is, by what the replicas that are alive observed."""
    assert deployment.revision is not None
    number = deployment.revision.number
    failed = next((it for it in observed if it.tried == number and it.reason), None)
    if failed is not None:
        # Without the registry nothing is known to be wrong yet.
        phase = Phase.PENDING if failed.reason is Reason.REGISTRY_UNAVAILABLE else Phase.FAILED
        return Status(phase, failed.reason, failed.message)
    if not observed:
        return Status(Phase.PENDING, Reason.NO_REPLICA, "No replica is running.")
    behind = sum(it.serving != number for it in observed)
    if behind:
        return Status(Phase.PENDING, Reason.LOADING, f"{behind} of {len(observed)} replicas load revision {number}.")
    return Status(Phase.READY)


def in_use(deployment: Deployment, observed: Sequence[Observation]) -> set[int]:
    """The revisions that must stay loadable: what is wanted, and what still answers somewhere."""
    wanted = set() if deployment.revision is None or deployment.removed_at else {deployment.revision.number}
    return wanted | {it.serving for it in observed if it.serving is not None}
