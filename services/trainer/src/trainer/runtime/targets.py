"""What a job is to foretell: the target column as the estimator wants it, or why it cannot be foretold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.runtime.mistakes import UserMistake

MAX_CLASSES = 200
MAX_LABEL = 1024


@dataclass(frozen=True)
class Classes:
    """The classes of the training rows in the estimator's order; `values` are as JSON has them."""

    values: tuple[Any, ...]
    known: NDArray[Any]  # as the estimator has them: booleans are 0 and 1

    def indices_of(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Which class each label is; -1 for a class that training did not see."""
        places = np.searchsorted(self.known, labels).clip(max=len(self.known) - 1)
        return np.where(self.known[places] == labels, places, -1)


def present(target: pa.Array, name: str) -> NDArray[np.bool_]:
    """Which rows have a target at all."""
    gaps = pc.is_null(target, nan_is_null=True).to_numpy(zero_copy_only=False)
    if gaps.all():
        raise UserMistake(f"The target {name!r} is null in every row.", "Choose another column, or check its source.")
    mask: NDArray[np.bool_] = ~gaps
    return mask


def labels_of(target: pa.Array, name: str) -> NDArray[Any]:
    """The target of a classification: int64, or strings."""
    kind = target.type.value_type if pa.types.is_dictionary(target.type) else target.type
    if pa.types.is_boolean(kind):
        return np.asarray(target.to_numpy(zero_copy_only=False)).astype(np.int64)
    if pa.types.is_integer(kind):
        return np.asarray(target.to_numpy(zero_copy_only=False)).astype(np.int64)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(target.cast(pa.string()).to_numpy(zero_copy_only=False)).astype(object)
    if pa.types.is_floating(kind):
        numbers = np.asarray(target.to_numpy(zero_copy_only=False))
        if (np.abs(numbers) < 2**53).all() and (numbers % 1 == 0).all():
            return numbers.astype(np.int64)
    hint = "Use the task regression, or a column of text, integers or booleans."
    raise UserMistake(f"The target {name!r} is {kind}, which has no classes.", hint)


def numbers_of(target: pa.Array, name: str) -> NDArray[np.float64]:
    """The target of a regression."""
    kind = target.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        hint = "Use the task classification, or a column of numbers."
        raise UserMistake(f"The target {name!r} is {kind}, not a number.", hint)
    numbers: NDArray[np.float64] = target.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(numbers).all():
        raise UserMistake(f"The target {name!r} is infinite in some rows.", "Quarantine them with a range check.")
    return numbers


def classes_of(labels: NDArray[Any], target: pa.Array, name: str) -> Classes:
    """The classes among the training rows."""
    known = np.unique(labels)
    if len(known) < 2:
        hint = "A classifier needs two classes or more: look at the target's profile and the split."
        raise UserMistake(f"The target {name!r} has one class only in the training rows: {known[0]!r}.", hint)
    if len(known) > MAX_CLASSES:
        hint = f"A classification has at most {MAX_CLASSES}; is this a regression, or an identifier?"
        raise UserMistake(f"The target {name!r} has {len(known)} classes.", hint)
    if any(isinstance(label, str) and (len(label) > MAX_LABEL or "\0" in label) for label in known):
        hint = "Is this a text rather than a class? Choose another column, or change its values."
        raise UserMistake(f"The target {name!r} has a class of more than {MAX_LABEL} characters, or with a NUL.", hint)
    values = [bool(value) for value in known] if pa.types.is_boolean(target.type) else known.tolist()
    return Classes(tuple(values), known)
