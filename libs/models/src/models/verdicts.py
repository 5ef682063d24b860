"""The verdict over an ONNX twin: it is kept only if it answers as the original does.

Compared are held-out rows, and rows made from them with missing values and with categories that training never saw:
what converts silently wrong (an imputer's indicator, native categories of hist gradient boosting, forests fitted on
missing values) shows only there.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kit import errors
from models.runners import Runner
from models.signature import MISSING_TIME, Arrays, Prediction

TOLERANCE = 1e-5
UNKNOWN = "\u2301 a category that no data has"
MADE_SHARE = 0.1  # of the values of a made row are missing, and as many categories unknown
MAX_MADE = 5_000


@dataclass(frozen=True)
class Verdict:
    """Whether the twin is kept, and why. `max_difference` is that of the scores, None when none were compared."""

    kept: bool
    reason: str
    tolerance: float = TOLERANCE
    max_difference: float | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From the child's answer or the registry."""
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """For the registry."""
        return {
            "kept": self.kept,
            "reason": self.reason,
            "tolerance": self.tolerance,
            "max_difference": self.max_difference,
        }


def compare(original: Runner, twin: Runner, arrays: Arrays) -> Verdict:
    """Ask both about these rows and about rows made from them."""
    made = made_rows(arrays)
    differences: list[float] = []
    for name, rows in (("held-out", arrays), ("made", made)):
        try:
            answer = twin.predict(rows)
        except errors.Corrupt as error:
            return Verdict(kept=False, reason=error.detail)
        verdict = _difference(original.predict(rows), answer, name)
        if not verdict.kept:
            return verdict
        differences.append(verdict.max_difference or 0.0)
    count, count_made = len(next(iter(arrays.values()))), len(next(iter(made.values())))
    return Verdict(
        kept=True,
        reason=f"Agrees with the original on {count} held-out and {count_made} made rows.",
        max_difference=max(differences),
    )


def made_rows(arrays: Arrays) -> Arrays:
    """Copies of up to 5,000 rows, some values missing and some categories unknown: the same for the same rows."""
    random = np.random.default_rng(0)
    made: Arrays = {}
    for name, array in arrays.items():
        copy = array[:MAX_MADE].copy()
        gaps = random.random(copy.shape) < MADE_SHARE
        if copy.dtype == object:
            copy[gaps] = ""
            copy[random.random(copy.shape) < MADE_SHARE] = UNKNOWN
        else:
            copy[gaps] = MISSING_TIME if copy.dtype == np.int64 else np.nan
        made[name] = copy
    return made


def _difference(original: Prediction, twin: Prediction, rows: str) -> Verdict:
    if original.scores is None:
        # float32 holds seven digits: a value in the thousands cannot agree to 1e-5, so the scale is the largest value.
        scale = max(1.0, float(np.abs(original.values).max()))
        return _judged(original.values / scale, twin.values.astype(np.float64) / scale, rows)
    if twin.scores is None or twin.scores.shape != original.scores.shape:
        return Verdict(kept=False, reason="The twin has other classes than the original.")
    verdict = _judged(original.scores, twin.scores.astype(np.float64), rows)
    wrong = int((np.asarray(original.values) != np.asarray(twin.values)).sum())
    if wrong:
        reason = f"The labels of {wrong} of {len(original.values)} {rows} rows differ."
        return Verdict(kept=False, reason=reason, max_difference=verdict.max_difference)
    return verdict


def _judged(original: NDArray[Any], twin: NDArray[Any], rows: str) -> Verdict:
    difference = float(np.abs(original - twin).max())
    if not np.isfinite(difference):
        return Verdict(kept=False, reason=f"The twin answers {rows} rows with what is not a number.")
    if difference > TOLERANCE:
        reason = f"The scores of {rows} rows differ by up to {difference:.3g}."
        return Verdict(kept=False, reason=reason, max_difference=difference)
    return Verdict(kept=True, reason="", max_difference=difference)
