"""The original estimator as a runner: what the twin is compared with, and what runs where no twin was kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import formats
from models.matrices import matrix_of
from models.signature import Arrays, Prediction, Signature

ALWAYS = frozenset({"BaggingClassifier", "ExtraTreesClassifier", "RandomForestClassifier"})
"""Classifiers whose label is the class with the largest score, by the very words of their `predict`."""
UNLESS_CLOSE = frozenset(
    {"GradientBoostingClassifier", "HistGradientBoostingClassifier", "LogisticRegression", "MLPClassifier"}
)
"""Classifiers whose label is taken before the scores are rounded: another class only where two are as good as equal."""
CLOSE = 1e-9


class SkopsModel:
    """A scikit-learn pipeline that `models.formats` has loaded."""

    def __init__(self, content: bytes, signature: Signature) -> None:
        self.signature = signature
        self.pipeline: Any = formats.load(content)
        self._columns: Any = self.pipeline[:-1] if len(self.pipeline) > 1 else None
        self._estimator: Any = self.pipeline[-1]

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row: those of the pipeline's own `predict` and `predict_proba`."""
        matrix: Any = matrix_of(self.signature, arrays)
        if self._columns is not None:
            matrix = self._columns.transform(matrix)  # once for both
        if self.signature.task == "regression":
            return Prediction(np.ravel(self._estimator.predict(matrix)), None)
        if not self.signature.scored:
            return Prediction(self._estimator.predict(matrix), None)
        scores = self._estimator.predict_proba(matrix)
        return Prediction(self._labels(matrix, scores), scores)

    def _labels(self, matrix: Any, scores: NDArray[Any]) -> NDArray[Any]:
        """As `predict` says them, without computing the scores a second time where they tell."""
        name = type(self._estimator).__name__
        if name in ALWAYS or (name in UNLESS_CLOSE and not _any_close(scores)):
            labels: NDArray[Any] = self._estimator.classes_[scores.argmax(axis=1)]
        else:
            labels = self._estimator.predict(matrix)
        return labels


def _any_close(scores: NDArray[Any]) -> bool:
    best = np.partition(scores, -2, axis=1)
    return bool((best[:, -1] - best[:, -2] < CLOSE).any())
