"""A pipeline as it is kept: a name, and the definition that its next run will have."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kit import errors


class PipelineNotFound(errors.NotFound): ...


class PipelineInUse(errors.Conflict): ...


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline as it was last read."""

    id: uuid.UUID
    project: str
    name: str
    definition: Mapping[str, Any]
    revision: int
    """Counts its changes."""
    created_at: datetime
    updated_at: datetime
