"""A small job for every estimator: what docs/estimators.md was made with, and what tests train. Data only."""

from typing import Any

from models.estimators import EstimatorKind

_MORE: dict[str, dict[str, Any]] = {
    "RadiusNeighborsClassifier": {"radius": 4.0},  # with columns of one size, the default reaches nobody
    "RadiusNeighborsRegressor": {"radius": 20.0},
    "VotingClassifier": {"voting": "soft"},
    "TheilSenRegressor": {"max_subpopulation": 1000},
    "MLPClassifier": {"hidden_layer_sizes": [20], "max_iter": 300},
    "MLPRegressor": {"hidden_layer_sizes": [20], "max_iter": 300},
    "RandomForestClassifier": {"n_estimators": 30},
    "RandomForestRegressor": {"n_estimators": 30},
    "ExtraTreesClassifier": {"n_estimators": 30},
    "ExtraTreesRegressor": {"n_estimators": 30},
}


def sample_of(kind: EstimatorKind, task: str) -> dict[str, Any]:
    """Parameters with which that estimator can be trained: the defaults wherever they do."""
    parameters = dict(_MORE.get(kind.name, {}))
    for name in kind.required:
        match name:
            case "estimators":
                parameters[name] = _two(task)
            case "estimator":
                parameters[name] = _two(task)[1 if "Search" in kind.name else 0]
            case _:
                parameters[name] = {"max_depth": [2, 5]}
    return parameters


def _two(task: str) -> list[dict[str, Any]]:
    linear, side = ("LogisticRegression", "Classifier") if task == "classification" else ("Ridge", "Regressor")
    tree = {"class": f"sklearn.tree.DecisionTree{side}", "parameters": {"max_depth": 4}}
    return [{"class": f"sklearn.linear_model.{linear}"}, tree]
