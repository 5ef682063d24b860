"""What the suite answers about sweeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from trainyard.results import Json, RegisteredModel, Result, Time, Timed


@dataclass(frozen=True, kw_only=True)
class Trial(Result):
    """One job of a sweep: its parameters, and what they were worth."""

    number: int
    job: str
    phase: str = ""
    parameters: Json = field(default_factory=dict)
    value: float | None = None
    step: int | None = None
    message: str = ""
    created_at: Time = None
    finished_at: Time = None


def _trials(items: Any) -> tuple[Trial, ...]:
    return tuple(Trial.of(item) for item in items)


@dataclass(frozen=True, kw_only=True)
class Sweep(Timed):
    """A search for the best parameters of a job."""

    id: str
    job: Json = field(default_factory=dict)
    space: Json = field(default_factory=dict)
    objective: Json = field(default_factory=dict)
    budget: Json = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    best: Annotated[Trial | None, Trial.of] = None
    importance: Mapping[str, float] = field(default_factory=dict)
    core_hours: float = 0.0
    model: Annotated[RegisteredModel | None, RegisteredModel.of] = None
    trials: Annotated[tuple[Trial, ...], _trials] = ()
    """All of them, where one sweep was asked for; a list of sweeps is without."""
    created_at: Time = None
    finished_at: Time = None
