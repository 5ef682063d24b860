"""The verdict over an ONNX twin: it is kept only if it answers as the original does.

Compared are held-out rows, and rows made from them with missing values and with categories that training never saw:
what converts silently wrong (an imputer's indicator, native categories of hist gradient boosting, forests fitted on
missing values) shows only there. The child adds rows beside the model's own thresholds and far from all data
(`models.edges`), where a last bit or a large number decides.
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
SAID = {
    "held-out": "held-out rows",
    "made": "made rows",
    "beside": "rows beside the model's thresholds",
    "far": "rows far from all data",
}


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


def compare(
    original: Runner, twin: Runner, arrays: Arrays, *, beside: Arrays | None = None, far: Arrays | None = None
) -> Verdict:
    """Ask both about these rows, rows made from them, rows beside the model's thresholds and far from all data.

    Far from all data a twin may have no number as its answer, which serving says to whoever asked. It may not have
    another one.
    """
    asked, lost = {"held-out": arrays, "made": made_rows(arrays)}, 0
    if far is not None:
        known = answerable(original, far)
        far = answerable(twin, known)
        lost = _count(known) - _count(far)
    asked |= {name: rows for name, rows in (("beside", beside), ("far", far)) if rows is not None and _count(rows)}
    differences = [0.0]
    for name, rows in asked.items():
        try:
            answer, expected = twin.predict(rows), original.predict(rows)
        except errors.Corrupt as error:
            return Verdict(kept=False, reason=error.detail)
        if np.shape(answer.values) != np.shape(expected.values):
            return Verdict(kept=False, reason=f"The twin has not one answer for each of the {SAID[name]}.")
        if name == "far":
            answered = _finite(answer)
            lost += int((~answered).sum())
            answer, expected = _where(answer, answered), _where(expected, answered)
        verdict = _difference(expected, answer, SAID[name], per_row=name == "far")
        if not verdict.kept:
            return verdict
        differences.append(verdict.max_difference or 0.0)
    counts = {name: _count(rows) for name, rows in asked.items()}
    reason = f"Agrees with the original on {counts['held-out']} held-out and {counts['made']} made rows"
    if len(asked) > 2:
        reason += f", {counts.get('beside', 0)} beside its thresholds and {counts.get('far', 0)} far from all data"
    reason += f"; for {lost} of these it has no number." if lost else "."
    return Verdict(kept=True, reason=reason, max_difference=max(differences))


def _count(rows: Arrays) -> int:
    return len(next(iter(rows.values())))


def answerable(model: Runner, rows: Arrays) -> Arrays:
    """Those of the rows that a model answers at all: scaled, a number can be more than a tree takes."""
    if _answers(model, rows):
        return rows
    known = [row for row in range(_count(rows)) if _answers(model, {name: rows[name][row : row + 1] for name in rows})]
    return {name: array[known] for name, array in rows.items()}


def _answers(model: Runner, rows: Arrays) -> bool:
    try:
        model.predict(rows)
    except Exception:  # noqa: BLE001  # whatever an estimator raises, it answers nothing then
        return False
    return True


def _finite(answer: Prediction) -> NDArray[np.bool_]:
    numbers = np.asarray(answer.values if answer.scores is None else answer.scores)
    if numbers.dtype.kind != "f":
        return np.ones(len(numbers), bool)
    whole: NDArray[np.bool_] = np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    return whole


def _where(answer: Prediction, rows: NDArray[np.bool_]) -> Prediction:
    return Prediction(np.asarray(answer.values)[rows], None if answer.scores is None else answer.scores[rows])


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


def _difference(original: Prediction, twin: Prediction, rows: str, *, per_row: bool = False) -> Verdict:
    if not len(original.values):
        return Verdict(kept=True, reason="", max_difference=0.0)
    if original.scores is None and np.asarray(original.values).dtype.kind == "f":
        # float32 holds seven digits: a value in the thousands cannot agree to 1e-5, so the scale is the largest value.
        sizes = np.abs(np.asarray(original.values, np.float64))
        scale = np.maximum(1.0, sizes if per_row else sizes.max())
        return _judged(original.values / scale, twin.values.astype(np.float64) / scale, rows)
    verdict = Verdict(kept=True, reason="", max_difference=None)
    if original.scores is not None or twin.scores is not None:
        if original.scores is None or twin.scores is None or twin.scores.shape != original.scores.shape:
            return Verdict(kept=False, reason="The twin has other classes than the original.")
        verdict = _judged(original.scores, twin.scores.astype(np.float64), rows)
    wrong = int((np.asarray(original.values) != np.asarray(twin.values)).sum())
    if wrong:
        reason = f"The labels of {wrong} of {len(original.values)} {rows} differ."
        return Verdict(kept=False, reason=reason, max_difference=verdict.max_difference)
    return verdict


def _judged(original: NDArray[Any], twin: NDArray[Any], rows: str) -> Verdict:
    difference = float(np.abs(original - twin).max())
    if not np.isfinite(difference):
        return Verdict(kept=False, reason=f"The twin answers {rows} with what is not a number.")
    if difference > TOLERANCE:
        reason = f"The scores of {rows} differ by up to {difference:.3g}."
        return Verdict(kept=False, reason=reason, max_difference=difference)
    return Verdict(kept=True, reason="", max_difference=difference)
