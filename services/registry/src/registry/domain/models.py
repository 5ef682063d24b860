"""A model: a name for a line of versions."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

from kit import errors

_NAME = re.compile(r"[a-z0-9](?!.*\.\.)([a-z0-9._-]{0,61}[a-z0-9])?")


class ModelNotFound(errors.NotFound): ...


class ModelExists(errors.Conflict): ...


class ModelInUse(errors.Conflict): ...


@dataclass(frozen=True, kw_only=True)
class Model:
    id: uuid.UUID
    project: str
    name: str
    description: str
    created_at: datetime


def is_name(text: str) -> bool:
    """Whether a model may be called so."""
    return bool(_NAME.fullmatch(text))
