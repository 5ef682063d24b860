"""What every kind of step is done with, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from kit.clients import Principal
from pipelines.clients.ingest import IngestClient
from pipelines.clients.registry import RegistryClient
from pipelines.clients.serving import ServingClient
from pipelines.clients.trainer import TrainerClient
from pipelines.domain.expressions import Verdict
from pipelines.domain.kinds import With
from pipelines.domain.steps import Step

FIRST_LOOK = timedelta(milliseconds=200)
LOOK = timedelta(seconds=2)
"""Between two looks at what a neighbour makes; its event comes first, as a rule."""


class Expressions(Protocol):
    """Evaluates CEL somewhere where it can do no harm."""

    async def evaluate(self, expressions: Sequence[str], data: Mapping[str, Any]) -> list[Verdict]: ...


@dataclass(frozen=True)
class Neighbours:
    """Everybody whom a step may ask."""

    ingest: IngestClient
    trainer: TrainerClient
    registry: RegistryClient
    serving: ServingClient
    expressions: Expressions


@dataclass(frozen=True)
class Doing:
    """A step that is being done: for whom, and with what."""

    step: Step
    principal: Principal
    ask: Neighbours
    data: Mapping[str, Any] = field(default_factory=dict)
    """`steps` and `parameters`, for expressions; only what they name."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        return self.step.inputs or {}


@dataclass(frozen=True)
class Prepared:
    """What an attempt is begun with."""

    inputs: Mapping[str, Any]
    key: Mapping[str, Any]
    """What its key is made of: digests instead of names for all that may come to mean something else."""


@dataclass(frozen=True)
class Done:
    outputs: Mapping[str, Any]


@dataclass(frozen=True)
class Working:
    """Not done yet. `awaits` is whose event says more; `memo` is read at the next look."""

    memo: Mapping[str, Any]
    awaits: str
    due_in: timedelta = LOOK


class Kind(Protocol):
    """How a kind of step is done. Nothing here knows of the database; all of it may be done twice."""

    async def prepare(self, doing: Doing, given: With) -> Prepared:
        """What the attempt is begun with. It is persisted before anything is made."""
        ...

    async def work(self, doing: Doing) -> Done | Working:
        """Look, and act if there is something to do.

        Raises:
            StepFailed: the work came to nothing.
            errors.Error: a neighbour's answer.
        """
        ...

    async def cancel(self, doing: Doing) -> None:
        """End what was begun, as far as it can be ended."""
        ...

    async def still_there(self, doing: Doing, outputs: Mapping[str, Any]) -> bool:
        """Whether what an equal step made can still be used."""
        ...


class Immediate:
    """What kinds share that make nothing which goes on, and that are done every time."""

    async def prepare(self, doing: Doing, given: With) -> Prepared:
        inputs = given.model_dump(mode="json", by_alias=True)
        return Prepared(inputs, inputs)

    async def cancel(self, doing: Doing) -> None:
        """Nothing goes on."""

    async def still_there(self, doing: Doing, outputs: Mapping[str, Any]) -> bool:
        return False
