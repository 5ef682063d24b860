"""A dataset: a name, and the settings that its next version will use."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

from ingest.domain.settings import DatasetSettings
from kit import errors

NAME = re.compile(r"[a-z0-9](?!.*\.\.)([a-z0-9._-]{0,61}[a-z0-9])?")


class DatasetNotFound(errors.NotFound): ...


class DatasetExists(errors.Conflict): ...


class DatasetHeld(errors.Conflict): ...


@dataclass(frozen=True, kw_only=True)
class Dataset:
    id: uuid.UUID
    project: str
    name: str
    settings: DatasetSettings
    revision: int
    """Counts the changes of the settings: the ETag."""
    created_at: datetime
    updated_at: datetime


def refuse_other_names(name: str) -> None:
    """
    Raises:
        DatasetNotFound: no dataset can have this name, so that none has.
    """
    if not NAME.fullmatch(name):
        raise DatasetNotFound(f"{name[:100]!r} is not the name of a dataset.")
