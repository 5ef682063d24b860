"""Which estimators a job may name, and with which parameters. Data only: scikit-learn is not imported here.

Not in the tables, and why: `random_state` is the job's seed; `n_jobs` would make digests and last bits depend on the
number of threads; `warm_start`, `verbose` and callables have no meaning in a job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kit import errors
from models.parameters import Columns, Fraction, Real, Rules, Several, Whole, mistake, one_of

NUMERIC = ("auto", "passthrough", "impute_median", "impute_median_scale")
CATEGORIES = ("auto", "ordinal", "one_hot")
FORBIDDEN = {
    "n_jobs": "is the platform's: training runs on one thread, so that the same job gives the same bytes",
    "random_state": "is the platform's: use the job's seed",
    "verbose": "is the platform's: a job's log says what happens",
    "warm_start": "has no meaning in a job: every attempt begins anew",
}


class EstimatorInvalid(errors.Invalid):
    """The estimator is not one that this platform trains, or not with these parameters."""


@dataclass(frozen=True)
class EstimatorKind:
    """An estimator that a job may name."""

    path: str
    task: str
    parameters: Mapping[str, Rules]
    takes_missing: bool = False  # NaN in its input
    scales: bool = False  # wants columns of one size, and one column per category
    seeded: bool = True  # has a random_state

    @property
    def steps(self) -> "Steps":
        """How columns become numbers when nobody chose."""
        if self.scales:
            return Steps("impute_median_scale", "one_hot")
        # Forests take NaN too, but one that was fitted on NaN converts to ONNX silently wrong, and has no twin.
        return Steps("passthrough" if "HistGradientBoosting" in self.path else "impute_median", "ordinal")


@dataclass(frozen=True)
class Steps:
    """How columns become numbers, decided."""

    numeric: str
    categories: str
    add_indicator: bool = False


def estimator_kind(
    path: str, parameters: Mapping[str, Any], task: str, *, pointer: str = "#/estimator"
) -> EstimatorKind:
    """The estimator of that import path, when it is allowed, is of that task, and takes these parameters."""
    kind = ESTIMATORS.get(path)
    if kind is None:
        detail = f"must be one of {', '.join(ESTIMATORS)}"
        raise EstimatorInvalid(
            f"Unknown estimator {path!r}.", errors=[{"pointer": f"{pointer}/class", "detail": detail}]
        )
    if kind.task != task:
        allowed = ", ".join(other.path for other in ESTIMATORS.values() if other.task == task)
        detail = f"is for {kind.task}; for {task or 'no task'} choose one of {allowed}"
        raise EstimatorInvalid("Estimator and task differ.", errors=[{"pointer": f"{pointer}/class", "detail": detail}])
    places: list[errors.Place] = []
    for name, value in parameters.items():
        detail_of = _mistake(kind, name, value)
        if detail_of is not None:
            places.append({"pointer": f"{pointer}/parameters/{name}", "detail": detail_of})
    if places:
        raise EstimatorInvalid("The estimator does not take these parameters.", errors=places)
    return kind


def steps_of(kind: EstimatorKind, numeric: str, categories: str, add_indicator: bool) -> Steps:
    """The preprocessing that a job asks for, `auto` decided by the estimator."""
    places: list[errors.Place] = []
    pointer = "#/preprocessing"
    if numeric not in NUMERIC:
        places.append({"pointer": f"{pointer}/numeric", "detail": f"must be one of {', '.join(NUMERIC)}"})
    if categories not in CATEGORIES:
        places.append({"pointer": f"{pointer}/categories", "detail": f"must be one of {', '.join(CATEGORIES)}"})
    chosen = Steps(
        numeric=kind.steps.numeric if numeric == "auto" else numeric,
        categories=kind.steps.categories if categories == "auto" else categories,
        add_indicator=add_indicator,
    )
    if chosen.numeric == "passthrough" and not kind.takes_missing:
        places.append({"pointer": f"{pointer}/numeric", "detail": "this estimator does not take missing values"})
    if add_indicator and chosen.numeric == "passthrough":
        places.append({"pointer": f"{pointer}/add_indicator", "detail": "needs an imputer: choose impute_median"})
    if places:
        raise EstimatorInvalid("The preprocessing does not fit the estimator.", errors=places)
    return chosen


def _mistake(kind: EstimatorKind, name: str, value: Any) -> str | None:
    if name in FORBIDDEN:
        return FORBIDDEN[name]
    if name not in kind.parameters:
        return f"is not a parameter of this estimator here; known are {', '.join(kind.parameters)}"
    return mistake(kind.parameters[name], value)


_FLAG: Rules = (one_of(True, False),)
_POSITIVE: Rules = (Real(0, 1e6, closed=False),)
_NOT_NEGATIVE: Rules = (Real(0, 1e6),)
_UNIT: Rules = (Real(0, 1),)
_OPEN_UNIT: Rules = (Fraction(0, 0.99, closed=False),)
_DEPTH: Rules = (Whole(1, 1000), one_of(None))
_LEAVES: Rules = (Whole(2, 100_000), one_of(None))
_BALANCED: Rules = (one_of("balanced", None),)
_ROUNDS: Rules = (Whole(1, 10_000),)

_TREE: dict[str, Rules] = {
    "max_depth": _DEPTH,
    "min_samples_split": (Whole(2, 10_000_000), Fraction(0, 1, closed=False)),
    "min_samples_leaf": (Whole(1, 10_000_000), *_OPEN_UNIT),
    "min_weight_fraction_leaf": (Real(0, 0.5),),
    "max_features": (Whole(1, 100_000), Fraction(0, 1, closed=False), one_of("sqrt", "log2", None)),
    "max_leaf_nodes": _LEAVES,
    "min_impurity_decrease": _NOT_NEGATIVE,
    "ccp_alpha": _NOT_NEGATIVE,
}
_SPLITTER: dict[str, Rules] = {"splitter": (one_of("best", "random"),)}
_GINI: dict[str, Rules] = {"criterion": (one_of("gini", "entropy", "log_loss"),), "class_weight": _BALANCED}
_ERROR: dict[str, Rules] = {"criterion": (one_of("squared_error", "absolute_error", "poisson"),)}
_FOREST: dict[str, Rules] = _TREE | {
    "n_estimators": _ROUNDS,
    "bootstrap": _FLAG,
    "max_samples": (Whole(1, 10_000_000), Fraction(0, 1, closed=False), one_of(None)),
}
_HIST: dict[str, Rules] = {
    "learning_rate": _POSITIVE,
    "max_iter": _ROUNDS,
    "max_leaf_nodes": _LEAVES,
    "max_depth": _DEPTH,
    "min_samples_leaf": (Whole(1, 10_000_000),),
    "l2_regularization": _NOT_NEGATIVE,
    "max_features": (Real(0, 1, closed=False),),
    "max_bins": (Whole(2, 255),),
    "categorical_features": (Columns(), one_of(None)),
    "early_stopping": (one_of("auto", True, False),),
    "validation_fraction": _OPEN_UNIT,
    "n_iter_no_change": _ROUNDS,
    "tol": _NOT_NEGATIVE,
}
_BOOSTING: dict[str, Rules] = _TREE | {
    "learning_rate": _NOT_NEGATIVE,
    "n_estimators": _ROUNDS,
    "subsample": (Real(0, 1, closed=False),),
    "validation_fraction": _OPEN_UNIT,
    "n_iter_no_change": (*_ROUNDS, one_of(None)),
    "tol": _NOT_NEGATIVE,
}
_LINEAR: dict[str, Rules] = {"fit_intercept": _FLAG, "positive": _FLAG, "tol": _NOT_NEGATIVE}
_SPARSE: dict[str, Rules] = _LINEAR | {
    "alpha": _NOT_NEGATIVE,
    "max_iter": _ROUNDS,
    "selection": (one_of("cyclic", "random"),),
}
_NEURAL: dict[str, Rules] = {
    "hidden_layer_sizes": (Several(Whole(1, 4096)),),
    "activation": (one_of("relu", "tanh", "logistic", "identity"),),
    "solver": (one_of("adam", "sgd", "lbfgs"),),
    "alpha": _NOT_NEGATIVE,
    "batch_size": (Whole(1, 1_000_000), one_of("auto")),
    "learning_rate": (one_of("constant", "invscaling", "adaptive"),),
    "learning_rate_init": _POSITIVE,
    "max_iter": _ROUNDS,
    "tol": _NOT_NEGATIVE,
    "momentum": _UNIT,
    "early_stopping": _FLAG,
    "validation_fraction": _OPEN_UNIT,
    "n_iter_no_change": _ROUNDS,
}
_LOGISTIC: dict[str, Rules] = {
    "C": _POSITIVE,
    "l1_ratio": (*_UNIT, one_of(None)),
    "fit_intercept": _FLAG,
    "class_weight": _BALANCED,
    "solver": (one_of("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga", "liblinear"),),
    "max_iter": _ROUNDS,
    "tol": _NOT_NEGATIVE,
}
_RIDGE: dict[str, Rules] = _LINEAR | {"alpha": _NOT_NEGATIVE, "max_iter": (*_ROUNDS, one_of(None))}
_HIST_LOSSES = one_of("squared_error", "absolute_error", "gamma", "poisson", "quantile")
_BOOSTING_LOSSES = one_of("squared_error", "absolute_error", "huber", "quantile")
_QUANTILE: dict[str, Rules] = {"quantile": (*_UNIT, one_of(None))}


def _table() -> dict[str, EstimatorKind]:
    label, number = "classification", "regression"
    ensemble, linear, tree = "sklearn.ensemble", "sklearn.linear_model", "sklearn.tree"
    rows = (
        EstimatorKind(
            f"{ensemble}.HistGradientBoostingClassifier", label, _HIST | {"class_weight": _BALANCED}, takes_missing=True
        ),
        EstimatorKind(f"{ensemble}.RandomForestClassifier", label, _FOREST | _GINI, takes_missing=True),
        EstimatorKind(f"{ensemble}.ExtraTreesClassifier", label, _FOREST | _GINI, takes_missing=True),
        EstimatorKind(
            f"{ensemble}.GradientBoostingClassifier", label, _BOOSTING | {"loss": (one_of("log_loss", "exponential"),)}
        ),
        EstimatorKind(f"{tree}.DecisionTreeClassifier", label, _TREE | _SPLITTER | _GINI, takes_missing=True),
        EstimatorKind(f"{linear}.LogisticRegression", label, _LOGISTIC, scales=True),
        EstimatorKind("sklearn.neural_network.MLPClassifier", label, _NEURAL, scales=True),
        EstimatorKind(
            f"{ensemble}.HistGradientBoostingRegressor",
            number,
            _HIST | _QUANTILE | {"loss": (_HIST_LOSSES,)},
            takes_missing=True,
        ),
        EstimatorKind(f"{ensemble}.RandomForestRegressor", number, _FOREST | _ERROR, takes_missing=True),
        EstimatorKind(f"{ensemble}.ExtraTreesRegressor", number, _FOREST | _ERROR, takes_missing=True),
        EstimatorKind(
            f"{ensemble}.GradientBoostingRegressor",
            number,
            _BOOSTING | {"loss": (_BOOSTING_LOSSES,), "alpha": _OPEN_UNIT},
        ),
        EstimatorKind(f"{tree}.DecisionTreeRegressor", number, _TREE | _SPLITTER | _ERROR, takes_missing=True),
        EstimatorKind(f"{linear}.LinearRegression", number, _LINEAR, scales=True, seeded=False),
        EstimatorKind(f"{linear}.Ridge", number, _RIDGE, scales=True),
        EstimatorKind(f"{linear}.Lasso", number, _SPARSE, scales=True),
        EstimatorKind(f"{linear}.ElasticNet", number, _SPARSE | {"l1_ratio": _UNIT}, scales=True),
        EstimatorKind("sklearn.neural_network.MLPRegressor", number, _NEURAL, scales=True),
    )
    return {kind.path: kind for kind in rows}


ESTIMATORS = _table()
