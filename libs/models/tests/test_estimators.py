"""A job names an estimator of the allow-list with parameters that it takes; anything else is said with its place."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kit import errors
from models.estimators import ESTIMATORS, estimator_kind, steps_of
from models.preprocessing import pipeline_of
from models.signature import Field

HIST = "sklearn.ensemble.HistGradientBoostingClassifier"
FOREST = "sklearn.ensemble.RandomForestClassifier"
MLP = "sklearn.neural_network.MLPRegressor"


def mistakes_of(call: Callable[..., object], *args: object, **kwargs: Any) -> dict[str, str]:
    with pytest.raises(errors.Invalid) as caught:
        call(*args, **kwargs)
    return {place["pointer"]: place["detail"] for place in caught.value.errors}


@pytest.mark.parametrize("path", ESTIMATORS)
def test_every_parameter_of_the_table_is_one_of_scikit_learn(path: str) -> None:
    module, _, name = path.rpartition(".")
    known = getattr(importlib.import_module(module), name)().get_params()
    kind = ESTIMATORS[path]
    assert set(kind.parameters) <= set(known)
    assert kind.seeded == ("random_state" in known)
    for parameter, rules in kind.parameters.items():
        default = list(known[parameter]) if isinstance(known[parameter], tuple) else known[parameter]
        if default not in ("deprecated", "warn") and parameter not in ("categorical_features", "hidden_layer_sizes"):
            assert any(rule.takes(default) for rule in rules), (parameter, default)


def test_an_unknown_estimator_is_answered_with_the_known_ones() -> None:
    said = mistakes_of(estimator_kind, "os.system", {}, "classification")
    assert all(path in said["#/estimator/class"] for path in ESTIMATORS)


def test_a_regressor_does_not_classify() -> None:
    said = mistakes_of(estimator_kind, MLP, {}, "classification")
    assert HIST in said["#/estimator/class"]
    assert MLP not in said["#/estimator/class"].partition("choose")[2]


@pytest.mark.parametrize(
    ("path", "parameter", "value", "said"),
    [
        (HIST, "n_jobs", 2, "one thread"),
        (HIST, "random_state", 1, "the job's seed"),
        (HIST, "scoring", "accuracy", "is not a parameter"),
        (HIST, "max_iter", 0, "an integer from 1 to 10000"),
        (HIST, "max_iter", True, "an integer from 1 to 10000"),
        (HIST, "max_iter", "many", "an integer from 1 to 10000"),
        (HIST, "learning_rate", 0, "a number above 0"),
        (HIST, "learning_rate", float("nan"), "a number above 0"),
        (HIST, "l2_regularization", -1, "a number from 0"),
        (HIST, "early_stopping", 1, "auto, true, false"),
        (HIST, "class_weight", "heavy", "balanced, null"),
        (HIST, "categorical_features", [0], "an array of the names of text features"),
        (FOREST, "max_samples", 1.5, "a fraction above 0 to 1"),
    ],
)
def test_a_parameter_out_of_bounds_is_named_with_what_it_may_be(
    path: str, parameter: str, value: Any, said: str
) -> None:
    mistakes = mistakes_of(estimator_kind, path, {parameter: value, "max_depth": 3}, "classification")
    assert list(mistakes) == [f"#/estimator/parameters/{parameter}"]
    assert said in mistakes[f"#/estimator/parameters/{parameter}"]


@pytest.mark.parametrize(
    ("sizes", "good"), [([10, 10], True), ([], False), ([0], False), (10, False), ([1] * 11, False)]
)
def test_layers_are_an_array_of_sizes(sizes: Any, good: bool) -> None:
    if good:
        kind = estimator_kind(MLP, {"hidden_layer_sizes": sizes}, "regression")
        columns = (Field("a", "number"),)
        steps = steps_of(kind, "auto", "auto", False)
        pipeline = pipeline_of(columns, kind, {"hidden_layer_sizes": sizes}, steps=steps)
        assert pipeline[-1].hidden_layer_sizes == (10, 10)
    else:
        said = mistakes_of(estimator_kind, MLP, {"hidden_layer_sizes": sizes}, "regression")
        assert "an array of an integer" in said["#/estimator/parameters/hidden_layer_sizes"]


def test_auto_is_decided_by_the_estimator() -> None:
    decided = {
        path: (kind.steps.numeric, kind.steps.categories)
        for path, kind in ESTIMATORS.items()
        if path in (HIST, FOREST, MLP)
    }
    assert decided == {
        HIST: ("passthrough", "ordinal"),
        FOREST: ("impute_median", "ordinal"),
        MLP: ("impute_median_scale", "one_hot"),
    }


def test_what_was_chosen_is_taken() -> None:
    assert steps_of(ESTIMATORS[FOREST], "passthrough", "one_hot", False).numeric == "passthrough"
    assert steps_of(ESTIMATORS[HIST], "impute_median", "auto", True).add_indicator


@pytest.mark.parametrize(
    ("path", "choice", "pointer"),
    [
        (MLP, ("passthrough", "auto", False), "#/preprocessing/numeric"),
        (HIST, ("passthrough", "auto", True), "#/preprocessing/add_indicator"),
        (HIST, ("guess", "auto", False), "#/preprocessing/numeric"),
        (HIST, ("auto", "hash", False), "#/preprocessing/categories"),
    ],
)
def test_preprocessing_that_does_not_fit_is_refused(path: str, choice: tuple[str, str, bool], pointer: str) -> None:
    assert list(mistakes_of(steps_of, ESTIMATORS[path], *choice)) == [pointer]


def test_categorical_features_are_found_behind_the_numbers() -> None:
    columns = (Field("a", "string"), Field("n", "number"), Field("b", "string"), Field("t", "timestamp"))
    kind = ESTIMATORS[HIST]
    pipeline = pipeline_of(columns, kind, {"categorical_features": ["b"]}, steps=kind.steps)
    assert pipeline[-1].categorical_features == [2]
    matrix = np.array([["x", 1.0, "y", 0]], object)
    assert pipeline[0].fit_transform(matrix)[0].tolist() == [1.0, 0.0, 0.0, 0.0, 3.0, 1.0]
    said = mistakes_of(pipeline_of, columns, kind, {"categorical_features": ["n"]}, steps=kind.steps)
    assert "is not a text feature" in said["#/estimator/parameters/categorical_features"]
