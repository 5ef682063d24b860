"""What the suite answers, as frozen dataclasses. `raw` is the JSON it came from, with what later versions add."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, Self

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Anything that the suite answers."""

    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        """From JSON: unknown members stay in `raw`, missing ones take the field's default."""
        values: dict[str, Any] = {"raw": document}
        for known in fields(cls):
            if known.name in values or (known.name not in document and _has_default(known)):
                continue
            value = document[known.name]
            convert: Callable[[Any], Any] | None = known.metadata.get("of")
            values[known.name] = convert(value) if convert and value is not None else value
        return cls(**values)


def _has_default(known: Any) -> bool:
    return known.default is not MISSING or known.default_factory is not MISSING


def _many(kind: type[Result]) -> Any:
    return field(default=(), metadata={"of": lambda items: tuple(kind.of(item) for item in items)})


def _one(kind: type[Result]) -> Any:
    return field(default=None, metadata={"of": kind.of})


def _time() -> Any:
    return field(default=None, metadata={"of": datetime.fromisoformat})


@dataclass(frozen=True, kw_only=True)
class Status(Result):
    """How far a thing is, and why."""

    phase: str
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Timed(Result):
    """A thing that takes time to become what was asked for."""

    status: Status = field(metadata={"of": Status.of})

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
    created_at: datetime | None = _time()
    updated_at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class DatasetVersion(Timed):
    """A table that never changes."""

    dataset: str
    version: int
    digest: str | None = None
    schema: tuple[Column, ...] = _many(Column)
    rows: int | None = None
    rejected: int | None = None
    rows_in: int | None = None
    splits: Mapping[str, int] | None = None
    settings: Json = field(default_factory=dict)
    source: Json | None = None
    created_at: datetime | None = _time()
    finished_at: datetime | None = _time()

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
    raw_row: str | None = None

    @classmethod
    def of(cls, document: Json) -> Self:
        """The wire calls the row's text `raw`, as `Result` calls the whole document."""
        return super().of({**document, "raw_row": document.get("raw")})


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
    model: RegisteredModel | None = _one(RegisteredModel)
    created_at: datetime | None = _time()
    started_at: datetime | None = _time()
    finished_at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class Model(Result):
    """A name for a line of model versions."""

    name: str
    description: str | None = None
    created_at: datetime | None = _time()


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
    created_at: datetime | None = _time()

    @property
    def reference(self) -> str:
        """As deployments name it."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Alias(Result):
    """A name that points at a version."""

    alias: str
    version: int
    updated_at: datetime | None = _time()


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
    targets: tuple[Target, ...] = _many(Target)


@dataclass(frozen=True, kw_only=True)
class Deployment(Timed):
    """A name that answers predictions."""

    name: str
    models: tuple[Json, ...] = ()
    generation: int | None = None
    revision: Revision | None = _one(Revision)
    created_at: datetime | None = _time()
    updated_at: datetime | None = _time()

    @property
    def serves(self) -> tuple[str, ...]:
        """The model versions that answer now."""
        targets = self.revision.targets if self.revision else ()
        return tuple(f"{target.model}@{target.version}" for target in targets)


@dataclass(frozen=True, kw_only=True)
class Answer(Result):
    """Predictions, and which model version made them."""

    predictions: tuple[Json, ...] = field(default=(), metadata={"of": tuple})
    model: str = ""
    version: int | None = None
    revision: str | int | None = None


@dataclass(frozen=True, kw_only=True)
class Pipeline(Result):
    """Steps that depend on each other."""

    name: str
    steps: Mapping[str, Json] = field(default_factory=dict)
    parameters: Json = field(default_factory=dict)
    created_at: datetime | None = _time()
    updated_at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class Step(Timed):
    """One step of a run."""

    name: str
    kind: str
    attempt: int | None = None
    outputs: Json | None = None
    needs: tuple[str, ...] = field(default=(), metadata={"of": tuple})
    started_at: datetime | None = _time()
    finished_at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class Run(Timed):
    """One execution of a pipeline."""

    id: str
    pipeline: str
    steps: tuple[Step, ...] = _many(Step)
    parameters: Json = field(default_factory=dict)
    created_at: datetime | None = _time()
    finished_at: datetime | None = _time()

    def outputs_of(self, step: str) -> Json:
        """What a step said when it succeeded."""
        return next((found.outputs or {} for found in self.steps if found.name == step), {})


@dataclass(frozen=True, kw_only=True)
class Key(Result):
    """An API key; `key` is there once, in the answer that makes it."""

    id: str
    name: str = ""
    role: str = ""
    scopes: tuple[str, ...] = field(default=(), metadata={"of": tuple})
    subject: str | None = None
    key: str | None = field(default=None, repr=False)
    created_at: datetime | None = _time()
    expires_at: datetime | None = _time()
    revoked_at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class Project(Result):
    """What keeps one team's things apart from another's."""

    name: str
    created_at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class Member(Result):
    """Somebody in a project."""

    subject: str
    role: str


@dataclass(frozen=True, kw_only=True)
class LogLine(Result):
    """A line that a job wrote."""

    message: str = ""
    at: datetime | None = _time()


@dataclass(frozen=True, kw_only=True)
class MetricPoint(Result):
    """A number that a job reported."""

    name: str
    value: float
    step: int | None = None
    at: datetime | None = _time()
