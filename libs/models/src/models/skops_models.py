"""The original estimator as a runner: what the twin is compared with, and what runs where no twin was kept."""

from typing import Any

import numpy as np

from models import formats
from models.matrices import matrix_of
from models.signature import Arrays, Prediction, Signature


class SkopsModel:
    """A scikit-learn pipeline that `models.formats` has loaded."""

    def __init__(self, content: bytes, signature: Signature) -> None:
        self.signature = signature
        self.pipeline: Any = formats.load(content)

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row."""
        matrix = matrix_of(self.signature, arrays)
        if self.signature.task == "regression":
            return Prediction(np.ravel(self.pipeline.predict(matrix)), None)
        scores = self.pipeline.predict_proba(matrix)
        # As `predict` of every allowed classifier does it, without computing the scores a second time.
        return Prediction(self.pipeline.classes_[scores.argmax(axis=1)], scores)
