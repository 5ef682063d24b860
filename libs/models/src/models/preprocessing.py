"""The pipeline of a job: columns become numbers, and the estimator learns from them."""

import importlib
from collections.abc import Mapping
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from kit import errors
from models.estimator_kinds import BINS
from models.estimators import ESTIMATORS, EstimatorInvalid, EstimatorKind, Steps, grid_of, nested
from models.signature import Field
from models.timestamps import TimestampParts


def pipeline_of(
    columns: tuple[Field, ...],
    kind: EstimatorKind,
    parameters: Mapping[str, Any],
    *,
    steps: Steps,
    seed: int = 0,
) -> Pipeline:
    """An unfitted pipeline over the object matrix of these columns, in their order."""
    return Pipeline(
        [
            ("columns", _transformer(columns, steps)),
            ("estimator", _estimator(columns, kind, parameters, seed)),
        ]
    )


def kept(pipeline: Pipeline) -> Pipeline:
    """What of a fitted pipeline answers, without a record of how it was found.

    Of a search the best estimator, fitted on all rows; of a tuned threshold the threshold. The record holds times, so
    that no two files would be the same, and functions that score, which no file may hold.
    """
    estimator = pipeline[-1]
    if isinstance(estimator, GridSearchCV | RandomizedSearchCV):
        estimator = estimator.best_estimator_
    if isinstance(estimator, TunedThresholdClassifierCV):
        found = FixedThresholdClassifier(
            estimator.estimator,
            threshold=estimator.best_threshold_,
            pos_label=estimator._curve_scorer._get_pos_label(),  # as scikit-learn's own `predict` asks for it
            response_method="predict_proba" if hasattr(estimator.estimator_, "predict_proba") else "decision_function",
        )
        found.estimator_ = estimator.estimator_
        estimator = found
    return Pipeline([*pipeline.steps[:-1], ("estimator", estimator)])


def _transformer(columns: tuple[Field, ...], steps: Steps) -> ColumnTransformer:
    # Of a flag quantiles make one bin; it is two by itself.
    binned = steps.numeric == BINS.numeric
    flags = _places(columns, "boolean") if binned else []
    numbers = _places(columns, "number", "integer", *(() if binned else ("boolean",)))
    parts = (
        ("numbers", _numbers(steps), numbers),
        ("flags", SimpleImputer(strategy="most_frequent", add_indicator=steps.add_indicator), flags),
        ("texts", _texts(steps), _places(columns, "string")),
        ("times", _times(steps), _places(columns, "timestamp")),
    )
    return ColumnTransformer([part for part in parts if part[2]])


def _numbers(steps: Steps) -> Any:
    if steps.numeric == "passthrough":
        return "passthrough"
    imputer = SimpleImputer(strategy="median", add_indicator=steps.add_indicator)
    match steps.numeric:
        case "impute_median_scale":
            return Pipeline([("impute", imputer), ("scale", StandardScaler())])
        case "impute_median_unit":  # what lies outside of the training rows counts as their least or largest
            return Pipeline([("impute", imputer), ("scale", MinMaxScaler(clip=True))])
        case "impute_median_bins":
            bins = KBinsDiscretizer(5, encode="ordinal", strategy="quantile", quantile_method="linear", subsample=None)
            return Pipeline([("impute", imputer), ("bins", bins)])
    return imputer


def _texts(steps: Steps) -> Any:
    if steps.categories == "one_hot":
        return OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _times(steps: Steps) -> Any:
    if steps.numeric == "passthrough":
        return TimestampParts()
    return Pipeline([("parts", TimestampParts()), ("numbers", _numbers(steps))])


def _places(columns: tuple[Field, ...], *types: str) -> list[int]:
    return [index for index, column in enumerate(columns) if column.type in types]


def _estimator(columns: tuple[Field, ...], kind: EstimatorKind, parameters: Mapping[str, Any], seed: int) -> Any:
    module, _, name = kind.path.rpartition(".")
    arguments = dict(kind.defaults)
    for parameter, value in parameters.items():
        arguments[parameter] = _argument(columns, kind, parameter, value, seed)
    if kind.seeded:
        arguments["random_state"] = seed
    # `kind` comes from the table of `models.estimator_tables`, so the module is one of scikit-learn's.
    return getattr(importlib.import_module(module), name)(**arguments)


def _argument(columns: tuple[Field, ...], kind: EstimatorKind, name: str, value: Any, seed: int) -> Any:
    """A parameter as scikit-learn wants it, from JSON."""
    if name == "categorical_features" and isinstance(value, list):
        return _categorical(columns, value)
    if name == "hidden_layer_sizes":
        return tuple(value)
    inner = [_nested(columns, said, seed) for said, _ in nested(kind, {name: value}, "")]
    if isinstance(value, list) and inner:
        return [(f"e{index}", one) for index, one in enumerate(inner)]
    if inner:
        return inner[0]
    grid = grid_of(kind, {name: value})
    return value if grid is None else _grid(columns, grid[1], seed)


def _nested(columns: tuple[Field, ...], said: Mapping[str, Any], seed: int) -> Any:
    return _estimator(columns, ESTIMATORS[said["class"]], said.get("parameters", {}), seed)


def _grid(columns: tuple[Field, ...], grid: Mapping[str, list[Any]], seed: int) -> dict[str, list[Any]]:
    # No estimator is in a grid, so any kind does.
    none = next(iter(ESTIMATORS.values()))
    return {name: [_argument(columns, none, name, value, seed) for value in values] for name, values in grid.items()}


def _categorical(columns: tuple[Field, ...], names: list[str]) -> list[int]:
    """Where the transformer puts these columns: numbers come first, then texts."""
    numbers = len(_places(columns, "number", "integer", "boolean"))
    texts = [columns[index].name for index in _places(columns, "string")]
    unknown = [name for name in names if name not in texts]
    if unknown:
        pointer = "#/estimator/parameters/categorical_features"
        places: list[errors.Place] = [
            {"pointer": pointer, "detail": f"{name!r} is not a text feature"} for name in unknown
        ]
        raise EstimatorInvalid("Categorical features are text features.", errors=places)
    return [numbers + texts.index(name) for name in names]
