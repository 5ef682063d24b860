"""What the suite answers about secrets, quotas and usage."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from trainyard.results import Json, Result, Time


@dataclass(frozen=True, kw_only=True)
class Secret(Result):
    """A named value, without the value."""

    name: str
    version: int = 1
    """How often it was set."""
    subject: str | None = None
    """Who set it last."""
    created_at: Time = None
    updated_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Budget(Result):
    """Core-hours of a period."""

    core_hours: float | None = None
    """None: without limit."""
    period: str = "month"
    spent: float = 0
    since: Time = None
    until: Time = None


@dataclass(frozen=True, kw_only=True)
class Quota(Result):
    """What a project may have, None being without limit, and what it has."""

    project: str
    cpu: float | None = None
    memory: int | None = None
    gpu: int | None = None
    jobs: int | None = None
    priority: int | None = None
    budget: Annotated[Budget, Budget.of]
    used: Json = field(default_factory=dict)
    waiting: int = 0
    """Jobs that wait for it."""


@dataclass(frozen=True, kw_only=True)
class Took(Result):
    """What attempts took."""

    name: str
    """The day or the author."""
    core_hours: float = 0
    gib_hours: float = 0
    gpu_hours: float = 0
    attempts: int = 0


def _each(kind: type[Took]) -> Callable[[Any], Any]:
    return lambda items: tuple(kind.of(item) for item in items)


@dataclass(frozen=True, kw_only=True)
class Usage(Result):
    """What a project's jobs took on some days."""

    project: str
    first: str = ""
    last: str = ""
    by: str = "day"
    total: Annotated[Took, Took.of]
    items: Annotated[tuple[Took, ...], _each(Took)] = ()
