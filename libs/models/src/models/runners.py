"""What answers: an ONNX model in serving's own process, or the original estimator where scikit-learn may be."""

from typing import Protocol

from models.signature import Arrays, Prediction, Signature


class Runner(Protocol):
    """A loaded model. It takes the arrays that `rows.arrays_of` makes, and may be asked from any thread."""

    signature: Signature

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row."""
        ...
