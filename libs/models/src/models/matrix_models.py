"""Models that are a function of a matrix: rows by features in, rows by answers out.

Such a model can have a signature of either kind. Of columns, they are its features in order, all of them numbers; of
tensors, its one input is [-1, features] and its one output [-1, answers], or [-1] where there is one answer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runners import ModelUnloadable
from models.signature import Arrays, Prediction, Signature
from models.tensor_signature import AnySignature, TensorSignature

NUMERIC = frozenset({"number", "integer", "boolean"})
FLOATS = frozenset({"FP32", "FP64"})
Function = Callable[[NDArray[Any]], NDArray[Any]]


class MatrixModel:
    """One of them. Of a classification the answers are the probabilities of its classes, or of the second of two."""

    def __init__(
        self, function: Function, signature: AnySignature, *, features: int, answers: int, names: Sequence[str] = ()
    ) -> None:
        """`function` takes [rows, features] of float32 or float64. If `names`, which are the model's own of its
        features, are those of the columns in another order, theirs is the order.

        Raises:
            ModelUnloadable: the signature has other numbers of inputs or outputs.
        """
        self.signature = signature
        self._function = function
        self._answers = answers
        self._names = signature.names
        if isinstance(signature, TensorSignature):
            _require_tensors(signature, features, answers)
        else:
            _require_columns(signature, features, answers)
            if set(names) == set(self._names):
                self._names = tuple(names)

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row."""
        signature = self.signature
        if isinstance(signature, TensorSignature):
            matrix = arrays[self._names[0]]
            [output] = signature.outputs
            found = self._asked(matrix).reshape((-1,) if len(output.shape) == 1 else (-1, self._answers))
            return signature.prediction_of({output.name: found.astype(output.dtype, copy=False)}, len(matrix))
        found = self._asked(np.concatenate([arrays[name] for name in self._names], axis=1))
        if signature.task == "regression":
            return Prediction(np.ravel(found), None)
        scores = found if self._answers > 1 else np.concatenate([1 - found, found], axis=1)
        classes = np.empty(len(signature.classes), object)
        classes[:] = signature.classes
        return Prediction(classes[scores.argmax(axis=1)], scores if signature.scored else None)

    def _asked(self, matrix: NDArray[Any]) -> NDArray[Any]:
        found = np.asarray(self._function(matrix))
        if found.size != len(matrix) * self._answers:
            raise ModelUnloadable(f"The model gave {found.size} numbers for {len(matrix)} rows.")
        return found.reshape(-1, self._answers)


def _require_tensors(signature: TensorSignature, features: int, answers: int) -> None:
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise ModelUnloadable("Such a model has one input and one output.")
    [given], [made] = signature.inputs, signature.outputs
    if given.shape != (-1, features) or given.datatype not in FLOATS:
        raise ModelUnloadable(f"The model's input is FP32 or FP64 of shape [-1, {features}].")
    shapes = [(-1, answers), (-1,)] if answers == 1 else [(-1, answers)]
    if made.shape not in shapes or made.datatype not in FLOATS:
        raise ModelUnloadable(f"The model's output is FP32 or FP64 of shape [-1, {answers}].")


def _require_columns(signature: Signature, features: int, answers: int) -> None:
    if len(signature.inputs) != features or not {it.type for it in signature.inputs} <= NUMERIC:
        raise ModelUnloadable(f"The model takes {features} columns of numbers.")
    classes = len(signature.classes)
    expected = (1,) if signature.task == "regression" else (1, 2) if classes == 2 else (classes,)
    if answers not in expected:
        raise ModelUnloadable(f"The model gives {answers} numbers for each row, which do not fit its signature.")
