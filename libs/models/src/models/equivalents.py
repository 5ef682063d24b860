"""A copy of a fitted pipeline that answers alike and converts to ONNX exactly.

Trees of scikit-learn compare a float32 with a float64 threshold, those of ONNX with a float32: rounded to the nearest,
a threshold between two neighbouring float32 can become the upper one, and rows that hold it go the other way. Rounded
down it parts all float32 as before. In front of a tree one last bit decides as well, so numbers are imputed and scaled
in float64 there, as scikit-learn does it.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.cross_decomposition import CCA, PLSCanonical
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import BernoulliNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, StandardScaler

DEEPEST = 12


class ExactNumbers(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """What an imputer and a scaler do to [rows, columns], in float64; `models.conversions` has the ONNX nodes.

    `narrow` is for columns that scikit-learn has as float32 already: there each step is rounded.
    """

    def __init__(self, imputer: Any, scaler: Any = None, narrow: bool = False) -> None:
        self.imputer = imputer
        self.scaler = scaler
        self.narrow = narrow


def equivalent(pipeline: Any) -> Any:
    """A copy with the same answers; what is not known is as it was."""
    twin = _replaced(copy.deepcopy(pipeline), 0)
    if jumps(twin[-1]):
        for step in twin.steps[:-1]:
            _make_exact(step[1])
    return twin


def jumps(estimator: Any) -> bool:
    """Whether the last bit of an input can decide: somewhere in it a number is compared with a threshold."""
    return any(
        hasattr(one, "tree_") or hasattr(one, "nodes") or isinstance(one, BernoulliNB) for one in parts_of(estimator)
    )


def parts_of(estimator: Any, depth: int = 0) -> Iterator[Any]:
    """The estimator and all that it is made of."""
    yield estimator
    if depth < DEEPEST:
        for value in _members(estimator):
            yield from parts_of(value, depth + 1)


def floor32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest float32 that is not above, for each."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    down = np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
    return down.astype(np.float64)


def _members(owner: Any) -> list[Any]:
    if isinstance(owner, dict):
        return list(owner.values())
    if isinstance(owner, list | tuple):
        return list(owner)
    if isinstance(owner, np.ndarray):
        return list(owner.ravel()) if owner.dtype == object else []
    module = type(owner).__module__
    if not module.startswith(("sklearn.", "models.")) or not hasattr(owner, "__dict__"):
        return []
    return list(vars(owner).values())


def _replaced(owner: Any, depth: int) -> Any:
    """What stands for it, after the same was done to all that is in it."""
    if depth > DEEPEST:
        return owner
    if isinstance(owner, list):
        owner[:] = [_replaced(each, depth + 1) for each in owner]
    elif isinstance(owner, tuple):
        return tuple(_replaced(each, depth + 1) for each in owner)
    elif isinstance(owner, np.ndarray) and owner.dtype == object:
        flat = owner.reshape(-1)
        for index, each in enumerate(flat):
            flat[index] = _replaced(each, depth + 1)
    elif isinstance(owner, dict):
        for name, each in owner.items():
            owner[name] = _replaced(each, depth + 1)
    elif type(owner).__module__.startswith("sklearn.") and hasattr(owner, "__dict__"):
        for name, each in vars(owner).items():
            vars(owner)[name] = _replaced(each, depth + 1)
        for kind, fitted, stand_in in _STAND_INS:
            if isinstance(owner, kind) and hasattr(owner, fitted):
                return stand_in(owner)
        _round_thresholds(owner)
    return owner


def _round_thresholds(owner: Any) -> None:
    tree = getattr(owner, "tree_", None)
    if tree is not None:
        tree.threshold[:] = floor32(tree.threshold)
    nodes = getattr(owner, "nodes", None)
    if isinstance(nodes, np.ndarray) and nodes.dtype.names and "num_threshold" in nodes.dtype.names:
        nodes["num_threshold"] = floor32(nodes["num_threshold"])
    if isinstance(owner, KBinsDiscretizer) and hasattr(
        owner, "bin_edges_"
    ):  # here it is `x < edge` that counts: rounded up
        owner.bin_edges_ = np.array([-floor32(-edges) for edges in owner.bin_edges_] + [None], object)[:-1]


def _linear_classifier(owner: Any) -> Any:
    """skl2onnx takes the softmax of one score for two classes; scikit-learn the logistic function of it."""
    made = LogisticRegression()
    made.classes_, made.coef_, made.intercept_ = owner.classes_, owner.coef_, owner.intercept_
    made.n_features_in_ = owner.n_features_in_
    return made


def _linear_regressor(owner: Any) -> Any:
    made = LinearRegression()
    made.coef_ = owner.coef_.ravel()
    made.intercept_ = float(np.ravel(owner.intercept_ - owner._x_mean @ owner.coef_.T)[0])
    made.n_features_in_ = owner.n_features_in_
    return made


def _flat_vote(owner: Any) -> Any:
    owner.flatten_transform = False  # how `transform` would lay its columns; skl2onnx knows one way only
    return owner


_STAND_INS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (LinearDiscriminantAnalysis, "coef_", _linear_classifier),
    (CCA, "coef_", _linear_regressor),
    (PLSCanonical, "coef_", _linear_regressor),
    (VotingClassifier, "estimators_", _flat_vote),
    # Without a transformer, which no job can ask for, the target is learned as it is.
    (TransformedTargetRegressor, "regressor_", lambda owner: owner.regressor_),
)


def _make_exact(columns: Any) -> None:
    if not isinstance(columns, ColumnTransformer):
        return
    columns.transformers_ = [
        (name, _exact(step, narrow=name == "times"), where) for name, step, where in columns.transformers_
    ]


def _exact(step: Any, *, narrow: bool) -> Any:
    if isinstance(step, Pipeline):
        steps = [_exact(one, narrow=narrow) for _, one in step.steps]
        if len(steps) > 1 and isinstance(steps[-2], ExactNumbers) and isinstance(steps[-1], _SCALERS):
            steps[-2:] = [ExactNumbers(steps[-2].imputer, steps[-1], narrow)]
        return Pipeline([(f"s{index}", one) for index, one in enumerate(steps)])
    if isinstance(step, SimpleImputer) and not step.add_indicator:
        return ExactNumbers(step, narrow=narrow)
    return step


_SCALERS = (StandardScaler, MinMaxScaler)
