"""A model's signature: which columns it takes, of which type, and what it answers.

The types are those of JSON and of tables, not of tensors: `number`, `integer`, `string`, `boolean`, `timestamp`.
Every column is one input of the model, of shape [rows, 1]: numbers, integers and booleans as float32 (missing: NaN;
float32 holds whole numbers to 2^24 exactly), strings as object arrays of `str` (missing: ""), timestamps as int64
microseconds since 1970 in UTC (missing: the smallest int64).
"""

import math
from collections.abc import Hashable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from kit import errors

TYPES = ("number", "integer", "string", "boolean", "timestamp")
TASKS = ("classification", "regression")
FEW = 32
"""Numbers that are looked at sooner one by one than as an array."""
INFINITE = "The model answered with a number that is not finite."
MISSING_TIME = np.iinfo(np.int64).min

Arrays = dict[str, NDArray[Any]]  # one [rows, 1] array per input, by name


class Columns(Arrays):
    """Columns that are all numbers, and one matrix [rows, columns] of float32. Each is made when one is asked for."""

    def __init__(self, names: Sequence[str], matrix: NDArray[np.float32]) -> None:
        super().__init__()
        self.names = names
        self.matrix = matrix

    def _made(self) -> "Columns":
        if not super().__len__():
            super().update(zip(self.names, self.matrix.T[:, :, None], strict=True))
        return self

    def __getitem__(self, name: str) -> NDArray[Any]:
        return super(Columns, self._made()).__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # what dict gives cannot be made by anybody else
        return super(Columns, self._made()).keys()

    def values(self) -> ValuesView[NDArray[Any]]:  # type: ignore[override]
        return super(Columns, self._made()).values()

    def items(self) -> ItemsView[str, NDArray[Any]]:  # type: ignore[override]
        return super(Columns, self._made()).items()


class ModelOutputInvalid(errors.Corrupt):
    """The model answered with NaN or infinity, or with a class that its signature does not have."""


class Prediction(NamedTuple):
    """What a model answers, as arrays.

    `values` [rows]: classes, or numbers of a regression. `scores` [rows, classes]: probabilities in the order of the
    signature's classes; None for a regression, and for a classifier that knows no probabilities.
    `tensors`: the outputs of a model of tensors by name, which has nothing but these.
    """

    values: NDArray[Any]
    scores: NDArray[Any] | None
    tensors: Mapping[str, NDArray[Any]] | None = None

    @property
    def size(self) -> int:
        """How much there is to write: rows, or elements of tensors."""
        return len(self.values) if self.tensors is None else sum(array.size for array in self.tensors.values())

    def part(self, start: int, end: int) -> "Prediction":
        """The answers to some of the rows."""
        if self.tensors is not None:
            return Prediction(self.values, None, {name: array[start:end] for name, array in self.tensors.items()})
        return Prediction(self.values[start:end], None if self.scores is None else self.scores[start:end])


@dataclass(frozen=True)
class Field:
    """A column that goes in, or a value that comes out."""

    name: str
    type: str
    nullable: bool = False

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise errors.Invalid(f"The type of {self.name!r} is {self.type!r}; known are {', '.join(TYPES)}.")

    def to_json(self) -> dict[str, Any]:
        """`{"name", "type", "nullable"}`."""
        return {"name": self.name, "type": self.type, "nullable": self.nullable}


@dataclass(frozen=True)
class Signature:
    """The columns of a model in order, its task and, for a classification, its classes in the order of the scores."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    task: str
    classes: tuple[Any, ...] = ()
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    listed: list[str] = field(init=False, repr=False, compare=False)
    """The same, to compare with a list."""
    are_numbers: bool = field(init=False, repr=False, compare=False)
    """Whether every column is a `number`, of which none may be missing or all may."""
    labels: frozenset[Any] = field(init=False, repr=False, compare=False)
    """The classes, to look for one."""

    def __post_init__(self) -> None:
        names = tuple(column.name for column in self.inputs)
        if not names or len(set(names)) != len(names):
            raise errors.Invalid("A signature needs at least one input, and names each of them once.")
        if self.task not in TASKS:
            raise errors.Invalid(f"The task is {self.task!r}; known are {', '.join(TASKS)}.")
        if (self.task == "classification") != (len(self.classes) > 1):
            raise errors.Invalid("A classification has two classes or more, a regression none.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "listed", list(names))
        object.__setattr__(self, "are_numbers", all(column.type == "number" for column in self.inputs))
        object.__setattr__(self, "labels", frozenset(self.classes))

    @classmethod
    def of(cls, inputs: Sequence[Field], task: str, classes: Sequence[Any] = (), *, scored: bool = True) -> Self:
        """The signature of a model made by this platform: the outputs follow from the task.

        Not `scored` is a classifier that knows no probabilities: it answers with labels alone.
        """
        outputs: tuple[Field, ...] = (Field("value", "number"),)
        if task == "classification":
            outputs = (Field("label", type_of_classes(classes)), Field("score", "number"))[: 2 if scored else 1]
        return cls(inputs=tuple(inputs), outputs=outputs, task=task, classes=tuple(classes))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """From the registry's JSON; anything else is Invalid."""
        try:
            return cls(
                inputs=tuple(Field(**column) for column in value["inputs"]),
                outputs=tuple(Field(**column) for column in value["outputs"]),
                task=value["task"],
                classes=tuple(value["classes"]),
            )
        except (KeyError, TypeError) as error:
            raise errors.Invalid("This is not a model's signature.") from error

    @property
    def scored(self) -> bool:
        """Whether the model is a classifier that tells how probable its classes are."""
        return self.task == "classification" and len(self.outputs) > 1

    def to_json(self) -> dict[str, Any]:
        """For the registry."""
        return {
            "inputs": [column.to_json() for column in self.inputs],
            "outputs": [column.to_json() for column in self.outputs],
            "task": self.task,
            "classes": list(self.classes),
        }

    def rows_in(self, arrays: Arrays) -> int:
        """How many answers a request asks for."""
        return len(arrays.matrix if type(arrays) is Columns else next(iter(arrays.values())))

    def joins(self, arrays: Arrays) -> Hashable:
        """Requests of which this is equal can be answered in one call: all of them."""
        return True

    def answers_of(self, prediction: Prediction) -> list[dict[str, Any]]:
        """One JSON object per row: `{"value"}`, `{"label", "score"}`, or `{"label"}` of a model without probabilities.

        With two classes the score is the probability of the second one (the positive class), whatever the label;
        with more it is the probability of the label.
        """
        if prediction.scores is None:
            if self.task == "classification":
                return [{"label": label} for label in self.labels_of(prediction)]
            require_finite(prediction.values)
            return [{"value": value} for value in prediction.values.tolist()]
        if prediction.scores.size <= FEW:
            found = prediction.scores.tolist()
            if not all(map(math.isfinite, chain.from_iterable(found))):
                raise ModelOutputInvalid(INFINITE)
            chosen = [it[1] for it in found] if len(self.classes) == 2 else list(map(max, found))
        else:
            require_finite(prediction.scores)
            column = prediction.scores[:, 1] if len(self.classes) == 2 else prediction.scores.max(axis=1)
            chosen = column.tolist()
        labels = self.labels_of(prediction)
        return [{"label": label, "score": score} for label, score in zip(labels, chosen, strict=True)]

    def labels_of(self, prediction: Prediction) -> list[Any]:
        """The classes that the model chose, as JSON values: an estimator knows false and true as 0 and 1."""
        values = prediction.values.tolist()
        if not self.labels.issuperset(values):
            raise ModelOutputInvalid("The model answered with a class that its signature does not have.")
        return [bool(value) for value in values] if isinstance(self.classes[0], bool) else values


def type_of_classes(classes: Sequence[Any]) -> str:
    """The type of a label."""
    for kind, name in ((bool, "boolean"), (int, "integer"), (str, "string")):
        if classes and all(type(label) is kind for label in classes):
            return name
    raise errors.Invalid("Classes are all booleans, all integers or all strings.")


def require_finite(values: NDArray[Any]) -> None:
    """JSON has no NaN, and a caller cannot use one."""
    if values.size <= FEW:
        are_finite = all(map(math.isfinite, values.ravel().tolist()))
    else:
        are_finite = bool(np.isfinite(values).all())
    if not are_finite:
        raise ModelOutputInvalid(INFINITE)
