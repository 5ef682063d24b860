"""A deployment: a name that answers predictions, what was asked for, and how far it is."""

import enum
import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from kit import errors
from serving.domain.limits import UNLIMITED, Limits
from serving.domain.revisions import Revision

NAME = re.compile(r"[a-z0-9](?!.*\.\.)([a-z0-9._-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[0-9]{1,9}|sha256:[0-9a-f]{64}|[A-Za-z0-9](?!.*\.\.)([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LATEST = "latest"
ALONE = 100
"""The weight of the only model of a deployment."""


class TooManyDeployments(errors.Conflict):
    """The project has as many as it may have."""


class DeploymentNotFound(errors.NotFound): ...


class ReferenceInvalid(errors.Invalid): ...


@dataclass(frozen=True)
class Reference:
    """A model version as users name it: `m` (the newest), `m@3`, `m@champion`, `m@sha256:…`."""

    model: str
    version: str

    @classmethod
    def of(cls, text: str) -> Self:
        """
        Raises:
            ReferenceInvalid: it is written in another way.
        """
        model, at, version = text.partition("@")
        if not NAME.fullmatch(model) or (at and not _VERSION.fullmatch(version)):
            raise ReferenceInvalid("a model is written as name, name@3, name@alias or name@sha256:…")
        return cls(model, version or LATEST)


@dataclass(frozen=True)
class Part:
    """One model that was asked for, as it was written, and its share of the requests."""

    model: str
    weight: int

    def to_json(self) -> dict[str, Any]:
        """As the row and the wire have it."""
        return {"model": self.model, "weight": self.weight}


class Phase(enum.StrEnum):
    """Where a deployment is."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


SETTLED = frozenset({Phase.READY, Phase.FAILED})


class Reason(enum.StrEnum):
    """Why a deployment is where it is, for programs; the message says it to people."""

    NONE = ""
    RESOLVING = "resolving"
    LOADING = "loading"
    NO_REPLICA = "no-replica"
    REGISTRY_UNAVAILABLE = "registry-unavailable"
    MODEL_NOT_FOUND = "model-not-found"
    NOT_SERVABLE = "not-servable"
    SIGNATURES_DIFFER = "signatures-differ"
    ARTIFACT_CORRUPT = "artifact-corrupt"
    ATTESTATION_MISSING = "attestation-missing"
    MODEL_TOO_LARGE = "model-too-large"
    MODEL_INVALID = "model-invalid"
    OUT_OF_MEMORY = "out-of-memory"
    LOAD_FAILED = "load-failed"


@dataclass(frozen=True)
class Status:
    """How far a deployment is."""

    phase: Phase
    reason: Reason = Reason.NONE
    message: str = ""


BEGUN = Status(Phase.PENDING, Reason.RESOLVING, "The models are looked up.")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A deployment as it was last read."""

    id: uuid.UUID
    project: str
    name: str
    models: tuple[Part, ...]
    limits: Limits = UNLIMITED
    is_pinned: bool = False
    """Whether its models stay in memory, whatever else is asked for."""
    status: Status = BEGUN
    generation: int = 1
    """Counts the changes of what is wanted."""
    observed_generation: int = 0
    """The generation that the status speaks of."""
    revision: Revision | None = None
    """What the replicas are to serve."""
    nudges: int = 0
    """Counts the reasons to look again, so that none that comes while somebody looks is lost."""
    removed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def holder(self) -> str:
        """The name under which it holds model versions at the registry."""
        return f"serving/deployment/{self.id}"

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.status.phase in SETTLED and self.observed_generation == self.generation
