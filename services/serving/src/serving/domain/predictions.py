"""Requests that are answered later: taken once, answered once in effect, kept for a while."""

import enum
import uuid
from dataclasses import dataclass
from datetime import datetime

from kit import errors

ATTEMPTS = 3
"""How often a request is begun that ends its process, before it is given up."""


class PredictionNotFound(errors.NotFound):
    """There is no such request, or its answer is not kept any more."""


class TooManyPredictions(errors.TooMany):
    """The project has as many waiting as it may have."""


class PredictionLost(errors.Unavailable):
    """Nobody could answer, for as long as requests are kept."""


class Phase(enum.StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED})


@dataclass(frozen=True, kw_only=True)
class Later:
    """A request, and its answer once there is one."""

    id: uuid.UUID
    project: str
    deployment: str
    request_id: str
    """Decides, as that of any request, which of several weighted models answers."""
    phase: Phase = Phase.PENDING
    message: str = ""
    """Why it still waits."""
    status: int | None = None
    """That `predict` would have answered with."""
    answer: bytes | None = None
    """What it would have answered: JSON."""
    attempts: int = 0
    generation: int = 1
    created_at: datetime
    finished_at: datetime | None = None
