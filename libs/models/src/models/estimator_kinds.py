"""What there is to know of an estimator that a job may name. Data only: scikit-learn is not imported here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.parameters import Rules


@dataclass(frozen=True)
class Steps:
    """How columns become numbers, decided."""

    numeric: str
    categories: str
    add_indicator: bool = False


NATIVE = Steps("passthrough", "ordinal")
"""Hist gradient boosting, which knows missing values itself."""
PLAIN = Steps("impute_median", "ordinal")
"""Trees. Forests take NaN too, but one that was fitted on NaN converts to ONNX silently wrong, and has no twin."""
SCALED = Steps("impute_median_scale", "one_hot")
"""What wants columns of one size, and one column per category."""
SHARES = Steps("impute_median_unit", "one_hot")
"""What counts, and takes nothing negative: numbers from 0 to 1."""
BINS = Steps("impute_median_bins", "one_hot")
"""What knows categories alone: numbers in five bins."""


@dataclass(frozen=True)
class EstimatorKind:
    """An estimator that a job may name."""

    path: str
    task: str  # "" is either: that of the estimators in it
    parameters: Mapping[str, Rules]
    steps: Steps = SCALED  # how columns become numbers when nobody chose
    takes_missing: bool = False  # NaN in its input
    seeded: bool = True  # has a random_state
    defaults: Mapping[str, Any] = field(default_factory=dict)  # where scikit-learn's own would not do here
    required: tuple[str, ...] = ()
    max_rows: int = 0  # to learn from, where its memory grows with the square of them; 0 is any number
    numeric: tuple[str, ...] = ()  # the only ways it takes numbers; none are all
    takes_minus_one: bool = True  # as a class; to some it says that there is no label

    @property
    def scales(self) -> bool:
        """Whether it wants columns of one size."""
        return self.steps == SCALED

    @property
    def name(self) -> str:
        """Without its module."""
        return self.path.rpartition(".")[2]
