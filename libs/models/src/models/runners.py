"""What answers: an ONNX model in serving's own process, or whatever else a project's runner child has loaded."""

from typing import Protocol

from kit import errors
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature


class ModelUnloadable(errors.Corrupt):
    """The bytes are no model of their format, or not the one that its signature describes."""


class Runner(Protocol):
    """A loaded model. It takes the arrays that `rows.arrays_of` makes, and may be asked from any thread."""

    @property
    def signature(self) -> AnySignature:
        """What it takes and gives."""
        ...

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row."""
        ...
