"""Aliases: names that point at one version each, and the ledger of where they pointed before."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

from kit import errors

LATEST = "latest"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class AliasNotFound(errors.NotFound): ...


class AliasTargetUnknown(errors.Invalid): ...


@dataclass(frozen=True)
class Target:
    """The version that an alias points at. A number is never given again, so it names one version for ever."""

    version: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Alias:
    id: uuid.UUID
    project: str
    model: str
    name: str
    target: Target
    revision: int
    """Counts the moves: to and fro is two of them, so that a stale look at an alias is always seen to be stale."""
    updated_at: datetime

    @property
    def reference(self) -> str:
        return reference_of_alias(self.model, self.name)

    @property
    def state(self) -> str:
        """What tells two states of it apart. One that was deleted and made again has another id."""
        return f"{self.id}:{self.revision}"


@dataclass(frozen=True, kw_only=True)
class Move:
    """One line of the ledger; lines are only ever added."""

    number: int
    origin: Target | None
    """None: the alias was made."""
    target: Target | None
    """None: the alias was deleted."""
    subject: str
    """Who did it, and the service that vouched for him."""
    issuer: str
    request_id: str | None
    at: datetime


def is_alias(text: str) -> bool:
    """Whether an alias may be called so: nothing that a reference reads in another way (a number, `latest`)."""
    return bool(_LABEL.fullmatch(text)) and not text.isdigit() and text != LATEST


def reference_of_alias(model: str, alias: str) -> str:
    return f"{model}@{alias}"
