"""A job names an estimator of the allow-list with parameters that it takes; anything else is said with its place."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.utils import all_estimators
from sklearn.utils._param_validation import validate_parameter_constraints

from kit import errors
from models.estimator_skips import SKIPS
from models.estimators import ESTIMATORS, estimator_kind, steps_of
from models.parameters import Choice, Columns, Fraction, Grid, Nested, Real, Rule, Several, Whole
from models.preprocessing import pipeline_of
from models.signature import Field

HIST = "sklearn.ensemble.HistGradientBoostingClassifier"
FOREST = "sklearn.ensemble.RandomForestClassifier"
MLP = "sklearn.neural_network.MLPRegressor"


def mistakes_of(call: Callable[..., object], *args: object, **kwargs: Any) -> dict[str, str]:
    with pytest.raises(errors.Invalid) as caught:
        call(*args, **kwargs)
    return {place["pointer"]: place["detail"] for place in caught.value.errors}


def class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", ESTIMATORS)
def test_every_parameter_of_the_table_is_one_of_scikit_learn(path: str) -> None:
    known = inspect.signature(class_of(path).__init__).parameters
    kind = ESTIMATORS[path]
    assert {*kind.parameters, *kind.defaults} <= set(known)
    assert kind.seeded == ("random_state" in known)
    assert set(kind.required) <= set(kind.parameters)
    for parameter, rules in kind.parameters.items():
        default = kind.defaults.get(parameter, known[parameter].default)
        if default is inspect.Parameter.empty:
            assert parameter in kind.required
            continue
        default = list(default) if isinstance(default, tuple) else default
        default = default.item() if isinstance(default, np.generic) else default
        if default not in ("deprecated", "warn") and parameter != "categorical_features":
            assert any(rule.takes(default) for rule in rules), (parameter, default)


def bounds_of(rule: Rule) -> list[Any]:
    """The least and the most that a rule lets through."""
    match rule:
        case Several(Nested()) | Nested() | Grid() | Columns():
            return []
        case Choice():
            return list(rule.values)
        case Several():
            return [[value] for value in bounds_of(rule.of)]
        case Fraction():
            return [rule.low if rule.closed else 1e-9, float(rule.high)]
        case Real():
            return [rule.low if rule.closed else 1e-9, rule.high]
        case Whole():
            return [rule.low, rule.high]


@pytest.mark.parametrize("path", ESTIMATORS)
def test_what_the_rules_let_through_scikit_learn_takes_too(path: str) -> None:
    constraints = class_of(path)._parameter_constraints
    for name, rules in ESTIMATORS[path].parameters.items():
        for value in (bound for rule in rules for bound in bounds_of(rule)):
            said = tuple(value) if name == "hidden_layer_sizes" else value
            validate_parameter_constraints({name: constraints[name]}, {name: said}, path)


def test_every_estimator_of_scikit_learn_is_in_the_table_or_left_out_with_a_reason() -> None:
    names = {name for name, _ in all_estimators()}
    trained = {kind.name for kind in ESTIMATORS.values()}
    assert trained | set(SKIPS) == names
    assert not trained & set(SKIPS)


def test_an_unknown_estimator_is_answered_with_what_was_meant() -> None:
    assert "docs/estimators.md" in mistakes_of(estimator_kind, "os.system", {}, "classification")["#/estimator/class"]
    for said in ("RandomForestClassifier", "sklearn.tree.RandomForestClassifier", "sklearn.ensemble.RandomForrest"):
        detail = mistakes_of(estimator_kind, said, {}, "classification")["#/estimator/class"]
        assert f"did you mean {FOREST}" in detail


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("sklearn.cluster.KMeans", "without a target"),
        ("sklearn.ensemble.IsolationForest", "train a classifier"),
        ("sklearn.linear_model.MultiTaskLasso", "sklearn.linear_model.Lasso"),
        ("sklearn.preprocessing.StandardScaler", "impute_median_scale"),
        ("sklearn.linear_model.PassiveAggressiveClassifier", "SGDClassifier"),
    ],
)
def test_what_is_left_out_is_said_with_the_reason_and_what_to_use_instead(path: str, said: str) -> None:
    assert said in mistakes_of(estimator_kind, path, {}, "classification")["#/estimator/class"]


def test_a_regressor_does_not_classify() -> None:
    said = mistakes_of(estimator_kind, MLP, {}, "classification")
    assert "HistGradientBoostingClassifier" in said["#/estimator/class"]
    assert "MLPRegressor" not in said["#/estimator/class"].partition("choose")[2]


VOTE, GRID = "sklearn.ensemble.VotingClassifier", "sklearn.model_selection.GridSearchCV"
BAG = "sklearn.ensemble.BaggingClassifier"


def test_what_an_estimator_of_others_takes_follows_from_them() -> None:
    def of(*paths: str) -> Any:
        return estimator_kind(VOTE, {"estimators": [{"class": path} for path in paths]}, "classification")

    assert of(HIST, HIST).steps.numeric == "passthrough"
    assert of(HIST, HIST).takes_missing
    assert of(FOREST, HIST).steps.numeric == "impute_median_scale"
    assert not of(HIST, "sklearn.linear_model.LogisticRegression").takes_missing
    assert of(FOREST, "sklearn.gaussian_process.GaussianProcessClassifier").max_rows == 5000
    categories = of("sklearn.naive_bayes.CategoricalNB", FOREST)
    assert categories.steps.numeric == "impute_median_bins"
    assert list(mistakes_of(steps_of, categories, "impute_median", "ordinal", False)) == [
        "#/preprocessing/numeric",
        "#/preprocessing/categories",
    ]
    assert not of("sklearn.semi_supervised.LabelSpreading", FOREST).takes_minus_one


@pytest.mark.parametrize(
    ("path", "parameters", "places"),
    [
        (VOTE, {}, ["/estimators"]),
        (VOTE, {"estimators": []}, ["/estimators"]),
        (
            VOTE,
            {"estimators": [{"class": FOREST, "parameters": {"max_depth": 0}}]},
            ["/estimators/0/parameters/max_depth"],
        ),
        (VOTE, {"estimators": [{"class": FOREST}, {"class": "os.system"}]}, ["/estimators/1/class"]),
        (VOTE, {"estimators": [{"class": MLP}]}, ["/estimators/0/class"]),
        (BAG, {"estimator": {"class": FOREST, "seed": 1}}, ["/estimator"]),
        (BAG, {"estimator": {"class": FOREST, "parameters": {"n_jobs": 4}}}, ["/estimator/parameters/n_jobs"]),
        (GRID, {"estimator": {"class": FOREST}, "param_grid": {"max_depth": [2, 0]}}, ["/param_grid/max_depth/1"]),
        (GRID, {"estimator": {"class": FOREST}, "param_grid": {"n_jobs": [2]}}, ["/param_grid/n_jobs/0"]),
        (
            GRID,
            {"estimator": {"class": BAG}, "param_grid": {"estimator": [{"class": FOREST}]}},
            ["/param_grid/estimator/0"],
        ),
        (GRID, {"estimator": {"class": FOREST}, "param_grid": {}}, ["/param_grid"]),
        (GRID, {"estimator": {"class": FOREST}, "param_grid": {"max_depth": [*range(1, 22)]}}, ["/param_grid"]),
    ],
)
def test_mistakes_in_what_an_estimator_is_made_of_have_their_places(
    path: str, parameters: dict[str, Any], places: list[str]
) -> None:
    said = mistakes_of(estimator_kind, path, parameters, "classification")
    assert list(said) == [f"#/estimator/parameters{place}" for place in places]


def test_an_estimator_is_not_made_of_too_much() -> None:
    deep: dict[str, Any] = {"class": FOREST}
    for _ in range(4):
        deep = {"class": BAG, "parameters": {"estimator": deep}}
    wide = {"estimators": [{"class": VOTE, "parameters": {"estimators": [{"class": FOREST}] * 10}}] * 4}
    for parameters in ({"estimator": deep}, wide):
        path = VOTE if "estimators" in parameters else BAG
        [said] = mistakes_of(estimator_kind, path, parameters, "classification").values()
        assert "is made of" in said


def test_what_an_estimator_is_made_of_gets_the_seed_and_the_columns() -> None:
    columns = (Field("n", "number"), Field("b", "string"))
    inner = {"class": HIST, "parameters": {"categorical_features": ["b"]}}
    parameters = {
        "estimator": {"class": BAG, "parameters": {"estimator": inner}},
        "param_grid": {"n_estimators": [2, 3]},
    }
    kind = estimator_kind(GRID, parameters, "classification")
    search = pipeline_of(columns, kind, parameters, steps=kind.steps, seed=7)[-1]
    assert search.param_grid == {"n_estimators": [2, 3]}
    assert search.estimator.random_state == 7
    assert search.estimator.estimator.categorical_features == [1]
    assert search.estimator.estimator.random_state == 7
    parameters = {"estimators": [{"class": HIST}, {"class": FOREST}]}
    vote = pipeline_of(columns, estimator_kind(VOTE, parameters, "classification"), parameters, steps=kind.steps)[-1]
    assert [(name, type(one).__name__) for name, one in vote.estimators] == [
        ("e0", "HistGradientBoostingClassifier"),
        ("e1", "RandomForestClassifier"),
    ]


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
