"""Timestamps as features: hour, weekday and month, in integer arithmetic that ONNX repeats to the last bit.

A timestamp must not pass through float32, which holds whole numbers to 2^24 only, and nothing of scikit-learn's own
that converts to ONNX takes one apart. `models.conversions` has the same steps as ONNX nodes.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from models.signature import MISSING_TIME

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
# Days from 0000-03-01 to 1970-01-01, and in 400, 100, 4 and 1 years: the civil calendar in integers, after
# Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
SHIFT, ERA, CENTURY, FOUR_YEARS, YEAR = 719_468, 146_097, 36_524, 1_460, 365


class TimestampParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """int64 microseconds [rows, k] → float32 [rows, 3 k]: all hours, all weekdays (Monday is 0), all months (1-12)."""

    def fit(self, X: Any, y: Any = None) -> Self:  # scikit-learn's names
        """Learns nothing but the number of columns, which makes it fitted."""
        self.n_features_in_ = np.shape(X)[1]
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # scikit-learn's names
        """Hours, weekdays and months; NaN where the timestamp is missing."""
        times = np.asarray(X).astype(np.int64)
        parts = np.hstack([times // HOUR % 24, (times // DAY + 3) % 7, months_of(times // DAY)]).astype(np.float32)
        parts[np.hstack([times == MISSING_TIME] * 3)] = np.nan
        return parts


def months_of(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """The month of days since 1970."""
    day_of_era = (days + SHIFT) % ERA
    leaps = day_of_era - day_of_era // FOUR_YEARS + day_of_era // CENTURY - day_of_era // (ERA - 1)
    year_of_era = leaps // YEAR
    day_of_year = day_of_era - (YEAR * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    months: NDArray[np.int64] = (month_from_march + 2) % 12 + 1
    return months
