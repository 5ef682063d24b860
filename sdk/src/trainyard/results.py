"""What the suite answers, as frozen dataclasses. `raw` is the JSON it came from, with what later versions add."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Self, get_type_hints

Json = Mapping[str, Any]
Time = Annotated[datetime | None, datetime.fromisoformat]
Names = Annotated[tuple[str, ...], tuple]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Anything that the suite answers."""

    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        """From JSON: unknown members stay in `raw`, missing ones take the field's default."""
        values: dict[str, Any] = {}
        for name, (required, convert) in _plan_of(cls).items():  # type: ignore[arg-type]  # a class is hashable
            if name in document or required:
                value = document[name]
                values[name] = convert(value) if convert is not None and value is not None else value
        return cls(raw=document, **values)


@cache
def _plan_of(kind: type[Result]) -> dict[str, tuple[bool, Callable[[Any], Any] | None]]:
    """For each field: whether JSON must have it, and what makes its value of JSON (the first annotation)."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        known.name: (
            known.default is MISSING and known.default_factory is MISSING,
            next(iter(getattr(hints[known.name], "__metadata__", ())), None),
        )
        for known in fields(kind)
        if known.name != "raw"
    }


def _each(kind: type[Result]) -> Callable[[Any], Any]:
    return lambda items: tuple(kind.of(item) for item in items)


@dataclass(frozen=True, kw_only=True)
class Status(Result):
    """How far a thing is, and why."""

    phase: str
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Timed(Result):
    """A thing that takes time to become what was asked for."""

    status: Annotated[Status, Status.of]

    @property
    def phase(self) -> str:
        """`status.phase`."""
        return self.status.phase


@dataclass(frozen=True, kw_only=True)
class Column(Result):
    """A column of a table."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Upload(Result):
    """Bytes that wait for a dataset version; they are kept for 24 hours."""

    upload: str
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset(Result):
    """A name, and the settings of its next version."""

    name: str
    settings: Json = field(default_factory=dict)
    created_at: Time = None
    updated_at: Time = None


@dataclass(frozen=True, kw_only=True)
class DatasetVersion(Timed):
    """A table that never changes."""

    dataset: str
    version: int
    digest: str | None = None
    schema: Annotated[tuple[Column, ...], _each(Column)] = ()
    rows: int | None = None
    rejected: int | None = None
    rows_in: int | None = None
    splits: Mapping[str, int] | None = None
    settings: Json = field(default_factory=dict)
    source: Json | None = None
    created_at: Time = None
    finished_at: Time = None
    reused_from: int | None = None
    """Of an upload whose bytes and settings had made this version before: its number."""

    @property
    def reference(self) -> str:
        """As jobs and pipelines name it."""
        return f"{self.dataset}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Reject(Result):
    """A row that a version left out, and why."""

    line: int
    column: str | None = None
    reason: str = ""
    detail: str | None = None

    @property
    def text(self) -> str | None:
        """The row as it stood in the source."""
        return self.raw.get("raw")


@dataclass(frozen=True, kw_only=True)
class RegisteredModel(Result):
    """Which model version a job made."""

    name: str
    version: int
    digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job(Timed):
    """A training job."""

    id: str
    dataset: str = ""
    dataset_digest: str | None = None
    task: str = ""
    target: str = ""
    attempt: int | None = None
    metrics: Mapping[str, float] | None = None
    model: Annotated[RegisteredModel | None, RegisteredModel.of] = None
    created_at: Time = None
    started_at: Time = None
    finished_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Model(Result):
    """A name for a line of model versions."""

    name: str
    description: str | None = None
    created_at: Time = None


@dataclass(frozen=True, kw_only=True)
class ModelVersion(Result):
    """A manifest of digests that never changes."""

    model: str
    version: int
    digest: str
    formats: tuple[Json, ...] = ()
    signature: Json = field(default_factory=dict)
    task: str = ""
    parameters: Json = field(default_factory=dict)
    metrics: Mapping[str, float] | None = None
    lineage: Json = field(default_factory=dict)
    twin: Json | None = None
    input_example: Annotated[tuple[Json, ...], tuple] = ()
    created_at: Time = None

    @property
    def reference(self) -> str:
        """As deployments name it."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Alias(Result):
    """A name that points at a version."""

    alias: str
    version: int
    updated_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Target(Result):
    """A model version that a revision sends requests to, and the share of them."""

    model: str
    version: int
    digest: str | None = None
    weight: int | None = None


@dataclass(frozen=True, kw_only=True)
class Revision(Result):
    """What a deployment's references meant at one moment."""

    id: str | int
    targets: Annotated[tuple[Target, ...], _each(Target)] = ()


@dataclass(frozen=True, kw_only=True)
class Deployment(Timed):
    """A name that answers predictions."""

    name: str
    models: tuple[Json, ...] = ()
    limits: Json = field(default_factory=dict)
    """`concurrency`, `waiting` and `memory_bytes`; None is as the operator has set it."""
    pinned: bool = False
    """Whether its models stay in memory, also when nobody asks for them."""
    generation: int | None = None
    revision: Annotated[Revision | None, Revision.of] = None
    created_at: Time = None
    updated_at: Time = None

    @property
    def serves(self) -> tuple[str, ...]:
        """The model versions that answer now."""
        targets = self.revision.targets if self.revision else ()
        return tuple(f"{target.model}@{target.version}" for target in targets)


@dataclass(frozen=True, kw_only=True)
class Answer(Result):
    """Predictions, and which model version made them."""

    predictions: Annotated[tuple[Json, ...], tuple] = ()
    model: str = ""
    version: int | None = None
    revision: str | int | None = None


@dataclass(frozen=True, kw_only=True)
class Batch(Timed):
    """A deployment asked about every row of a dataset version; the answer is a dataset version."""

    id: str
    deployment: str
    dataset: str = ""
    output: str = ""
    revision: int | None = None
    progress: Json = field(default_factory=dict)
    """`rows`, `rows_done`, and `refused`: those without an answer."""
    result: Json | None = None
    """`dataset` (such as `answers@4`) and `digest`."""
    created_at: Time = None
    started_at: Time = None
    finished_at: Time = None

    @property
    def made(self) -> str | None:
        """The dataset version that came of it."""
        return None if self.result is None else str(self.result["dataset"])


@dataclass(frozen=True, kw_only=True)
class Later(Timed):
    """Rows that were taken, and their answer once there is one."""

    id: str
    answer: Annotated[Answer | None, Answer.of] = None
    problem: Json | None = None
    """Why there is none: what `predict` would have answered."""
    created_at: Time = None
    finished_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Pipeline(Result):
    """Steps that depend on each other."""

    name: str
    steps: Mapping[str, Json] = field(default_factory=dict)
    parameters: Json = field(default_factory=dict)
    created_at: Time = None
    updated_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Step(Timed):
    """One step of a run."""

    name: str
    kind: str
    attempt: int | None = None
    outputs: Json | None = None
    needs: Names = ()
    started_at: Time = None
    finished_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Run(Timed):
    """One execution of a pipeline."""

    id: str
    pipeline: str
    steps: Annotated[tuple[Step, ...], _each(Step)] = ()
    parameters: Json = field(default_factory=dict)
    created_at: Time = None
    finished_at: Time = None

    def outputs_of(self, step: str) -> Json:
        """What a step said when it succeeded."""
        return next((found.outputs or {} for found in self.steps if found.name == step), {})


@dataclass(frozen=True, kw_only=True)
class Key(Result):
    """An API key; `key` is there once, in the answer that makes it."""

    id: str
    name: str = ""
    role: str = ""
    scopes: Names = ()
    subject: str | None = None
    key: str | None = field(default=None, repr=False)
    created_at: Time = None
    expires_at: Time = None
    revoked_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Project(Result):
    """What keeps one team's things apart from another's."""

    name: str
    created_at: Time = None


@dataclass(frozen=True, kw_only=True)
class Member(Result):
    """Somebody in a project."""

    subject: str
    role: str


@dataclass(frozen=True, kw_only=True)
class LogLine(Result):
    """A line that a job wrote."""

    message: str = ""
    at: Time = None


@dataclass(frozen=True, kw_only=True)
class MetricPoint(Result):
    """A number that a job reported."""

    name: str
    value: float
    step: int | None = None
    at: Time = None
