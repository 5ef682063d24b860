"""The pipeline of a job: columns become numbers, and the estimator learns from them."""

import importlib
from collections.abc import Mapping
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from kit import errors
from models.estimators import EstimatorInvalid, EstimatorKind, Steps
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


def _transformer(columns: tuple[Field, ...], steps: Steps) -> ColumnTransformer:
    parts = (
        ("numbers", _numbers(steps), _places(columns, "number", "integer", "boolean")),
        ("texts", _texts(steps), _places(columns, "string")),
        ("times", _times(steps), _places(columns, "timestamp")),
    )
    return ColumnTransformer([part for part in parts if part[2]])


def _numbers(steps: Steps) -> Any:
    if steps.numeric == "passthrough":
        return "passthrough"
    imputer = SimpleImputer(strategy="median", add_indicator=steps.add_indicator)
    if steps.numeric == "impute_median":
        return imputer
    return Pipeline([("impute", imputer), ("scale", StandardScaler())])


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
    arguments = dict(parameters)
    if kind.seeded:
        arguments["random_state"] = seed
    if isinstance(arguments.get("categorical_features"), list):
        arguments["categorical_features"] = _categorical(columns, arguments["categorical_features"])
    if "hidden_layer_sizes" in arguments:
        arguments["hidden_layer_sizes"] = tuple(arguments["hidden_layer_sizes"])
    # `kind` comes from the table of `models.estimators`, so the module is one of scikit-learn's.
    return getattr(importlib.import_module(module), name)(**arguments)


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
