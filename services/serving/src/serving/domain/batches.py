"""A batch: a deployment's revision asked about every row of a dataset version, each row once.

It pins what it needs when it begins (the revision with its models, the dataset version), cuts the version's shards into
parts, and ends with one new dataset version. What a part becomes is a pure function of what is pinned and of its place.
"""

import enum
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from kit import errors
from models.signature import Signature
from serving.domain.revisions import Target

PART_ROWS = 32_768
"""Of a part: what a process that is killed has to do again. Eight make a whole shard."""
MOST_PARTS = 10_000
ATTEMPTS = 5
"""How often a part is begun that comes to no end, before the batch is given up."""
ROW, ANSWER, SCORE, MODEL, ERROR = (
    "row_number",
    "prediction",
    "prediction_score",
    "prediction_model",
    "prediction_error",
)
ADDED = (ROW, ANSWER, SCORE, MODEL, ERROR)
"""The columns of a result beside those that are carried over."""
_REFERENCE = re.compile(
    r"[a-z0-9](?!.*\.\.)([a-z0-9._-]{0,61}[a-z0-9])?(@([1-9][0-9]{0,8}|latest|sha256:[0-9a-f]{64}))?"
)
# Which columns of a dataset hold values that a model takes: those that JSON would bring it.
_FITS: Mapping[str, frozenset[str]] = {
    "number": frozenset({"number", "integer"}),
    "integer": frozenset({"number", "integer"}),
    "boolean": frozenset({"boolean"}),
    "string": frozenset({"string"}),
    "timestamp": frozenset({"timestamp", "date", "string"}),
}


class BatchNotFound(errors.NotFound): ...


class BatchFinished(errors.Conflict):
    """Too late to cancel it."""


class BatchRunning(errors.Conflict):
    """It has to end before it is deleted."""


class TooManyBatches(errors.TooMany):
    """The project has as many under way as it may have."""


class NothingServed(errors.Conflict):
    """The deployment has no revision yet."""


class BatchUnfit(errors.Invalid):
    """The dataset version, or the deployment, is nothing that a batch can be made of."""


class DatasetReferenceInvalid(errors.Invalid): ...


class Phase(enum.StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})


class Reason(enum.StrEnum):
    """Why a batch is where it is, for programs."""

    NONE = ""
    WAITING_FOR_DATASET = "waiting-for-dataset"
    DATASET_NOT_FOUND = "dataset-not-found"
    DATASET_FAILED = "dataset-failed"
    DATASET_UNFIT = "dataset-unfit"
    MODEL_NOT_FOUND = "model-not-found"
    MODEL_FAILED = "model-failed"
    PREDICTING = "predicting"
    WRITING_RESULT = "writing-result"
    RESULT_REFUSED = "result-refused"


@dataclass(frozen=True)
class Why:
    """The reason, in one word and in sentences."""

    reason: Reason = Reason.NONE
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a dataset."""

    name: str
    type: str


@dataclass(frozen=True)
class Asked:
    """What a user asked for."""

    dataset: str
    output: str
    split: str | None = None
    columns: tuple[str, ...] | None = None
    """Those that are carried over; None: all."""

    def __post_init__(self) -> None:
        if not _REFERENCE.fullmatch(self.dataset):
            raise DatasetReferenceInvalid("A dataset version is written as name, name@3 or name@sha256:….")


@dataclass(frozen=True)
class Pinned:
    """The dataset version that was meant, and what is carried over of it."""

    reference: str
    """`flights@3`"""
    digest: str
    columns: tuple[Column, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `to_json` made."""
        columns = tuple(Column(it["name"], it["type"]) for it in value["columns"])
        return cls(value["reference"], value["digest"], columns)

    def to_json(self) -> dict[str, Any]:
        """For the row."""
        columns = [{"name": it.name, "type": it.type} for it in self.columns]
        return {"reference": self.reference, "digest": self.digest, "columns": columns}


@dataclass(frozen=True)
class Result:
    """The dataset version that was made."""

    reference: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch as it was last read."""

    id: uuid.UUID
    project: str
    subject: str
    """Who asked for it: on whose behalf it reads and writes."""
    deployment: str
    revision: int
    targets: tuple[Target, ...]
    asked: Asked
    pinned: Pinned | None = None
    phase: Phase = Phase.PENDING
    why: Why = field(default_factory=Why)
    rows: int = 0
    result: Result | None = None
    is_writing: bool = False
    """Its result is being written: too late to cancel."""
    cancel_requested: bool = False
    delete_requested: bool = False
    is_clean: bool = False
    """After its end: nothing is held for it any more."""
    generation: int = 1
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def holder(self) -> str:
        """The name under which it holds what it needs."""
        return f"serving/batch/{self.id}"

    @property
    def references(self) -> list[str]:
        """The model versions that answer."""
        return sorted({target.reference for target in self.targets})

    @property
    def lineage(self) -> dict[str, Any]:
        """What the result says of where it is from."""
        assert self.pinned is not None
        return {
            "kind": "batch",
            "batch": str(self.id),
            "deployment": self.deployment,
            "revision": self.revision,
            "models": [f"{it.reference} {it.digest}" for it in self.targets],
            "dataset": self.pinned.reference,
            "dataset_digest": self.pinned.digest,
            "split": self.asked.split,
        }


@dataclass(frozen=True)
class Shard:
    """A part of a dataset version as ingest lists it."""

    digest: str
    rows: int
    split: str


@dataclass(frozen=True)
class Cut:
    """Rows that one process works on at a time."""

    digest: str
    """Of the shard."""
    start: int
    """The place of the first row in its shard, from 0."""
    first: int
    """The number of the first row in the dataset version, from 1."""
    rows: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A cut and how far it is."""

    id: uuid.UUID
    project: str
    batch: uuid.UUID
    cut: Cut
    attempts: int
    generation: int = 1


@dataclass(frozen=True)
class Progress:
    """Of all parts of a batch."""

    parts: int = 0
    done: int = 0
    rows_done: int = 0
    refused: int = 0
    """Rows that the model did not answer: the result says why."""
    lost: str | None = None
    """Why the part is given up that was begun too often."""


def cuts_of(shards: Sequence[Shard], split: str | None) -> Iterator[Cut]:
    """All rows, or those of a split, in their order."""
    first = 1
    for shard in shards:
        if split in (None, shard.split):
            for start in range(0, shard.rows, PART_ROWS):
                yield Cut(shard.digest, start, first + start, min(PART_ROWS, shard.rows - start))
        first += shard.rows


def carried(columns: Sequence[Column], asked: Asked) -> tuple[Column, ...]:
    """The columns that go into the result.

    Raises:
        BatchUnfit: one of them is not there, or has a name of the result's own.
    """
    known = {column.name: column for column in columns}
    missing = [name for name in asked.columns or () if name not in known]
    if missing:
        raise BatchUnfit(f"The dataset has no column {missing[0][:100]!r}; it has {_named(columns)}.")
    chosen = tuple(columns) if asked.columns is None else tuple(known[name] for name in dict.fromkeys(asked.columns))
    taken = [column.name for column in chosen if column.name.lower() in ADDED]
    if taken:
        raise BatchUnfit(
            f"A column of the result is named {taken[0]!r} already. Name in `columns` those to carry over, without it."
        )
    return chosen


def require_fit(targets: Sequence[Target], columns: Sequence[Column]) -> None:
    """
    Raises:
        BatchUnfit: the models cannot be asked about rows of these columns, or answer in different types.
    """
    signatures = signatures_of(targets)
    answers = {signature.outputs[0].type for signature in signatures}
    if len(answers) > 1:
        raise BatchUnfit(f"The models answer in different types, {' and '.join(sorted(answers))}: no column has both.")
    known = {column.name: column.type for column in columns}
    for wanted in signatures[0].inputs:
        given = known.get(wanted.name)
        if given is None:
            raise BatchUnfit(f"The model takes a column {wanted.name!r}; the dataset has {_named(columns)}.")
        if given not in _FITS[wanted.type]:
            raise BatchUnfit(f"The model takes {wanted.name!r} as {wanted.type}; in the dataset it is {given}.")


def signatures_of(targets: Sequence[Target]) -> list[Signature]:
    """
    Raises:
        BatchUnfit: one of them takes tensors, which no dataset has.
    """
    if any(target.signature["task"] not in ("classification", "regression") for target in targets):
        raise BatchUnfit("A batch asks about rows of columns; this deployment takes tensors.")
    return [Signature.from_json(target.signature) for target in targets]


def schema_of(batch: Batch) -> list[dict[str, str]]:
    """The columns of the result, as ingest's settings name them."""
    assert batch.pinned is not None
    signatures = signatures_of(batch.targets)
    columns = [Column(ROW, "integer"), *batch.pinned.columns, Column(ANSWER, signatures[0].outputs[0].type)]
    if any(signature.scored for signature in signatures):
        columns.append(Column(SCORE, "number"))
    columns += [Column(MODEL, "string"), Column(ERROR, "string")]
    return [{"name": column.name, "type": column.type} for column in columns]


def settings_of(batch: Batch) -> dict[str, Any]:
    """How ingest reads the result: typed, every row or none, in its order and on one side."""
    split = {"by": [ROW], "held_out": 0.0}
    return {"columns": schema_of(batch), "nulls": [], "key": [], "split": split, "policy": "fail"}


def _named(columns: Sequence[Column]) -> str:
    shown = [column.name for column in columns[:30]]
    return ", ".join(shown) + (f" and {len(columns) - len(shown)} more" if len(columns) > len(shown) else "")
