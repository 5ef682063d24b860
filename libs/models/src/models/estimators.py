"""Which estimators a job may name, and with which parameters. scikit-learn is not imported here.

The tables are in `models.estimator_tables`, what is left out and why in `models.estimator_skips`.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kit import errors
from models.estimator_kinds import BINS, PLAIN, SCALED, SHARES
from models.estimator_kinds import EstimatorKind as EstimatorKind
from models.estimator_kinds import Steps as Steps
from models.estimator_skips import SKIPS
from models.estimator_tables import ESTIMATORS as ESTIMATORS
from models.parameters import Grid, Nested, mistake

NUMERIC = ("auto", "passthrough", *(steps.numeric for steps in (PLAIN, SCALED, SHARES, BINS)))
CATEGORIES = ("auto", "ordinal", "one_hot")
DEEPEST = 3
MOST = 30  # estimators that one may be made of
FORBIDDEN = {
    "n_jobs": "is the platform's: training runs on one thread, so that the same job gives the same bytes",
    "random_state": "is the platform's: use the job's seed",
    "verbose": "is the platform's: a job's log says what happens",
    "warm_start": "has no meaning in a job: every attempt begins anew",
}
_BY_NAME = {kind.name: kind.path for kind in ESTIMATORS.values()}


class EstimatorInvalid(errors.Invalid):
    """The estimator is not one that this platform trains, or not with these parameters."""


def estimator_kind(
    path: str, parameters: Mapping[str, Any], task: str, *, pointer: str = "#/estimator"
) -> EstimatorKind:
    """The estimator of that import path, when it is allowed, is of that task, and takes these parameters.

    Of one that is made of others, what it takes and how it wants its columns follows from them.

    Raises:
        EstimatorInvalid: with the place of each mistake.
    """
    kind = _known(path, task, pointer)
    places = list(_mistakes(kind, parameters, pointer))
    if places:
        raise EstimatorInvalid("The estimator does not take these parameters.", errors=places)
    inner = [
        estimator_kind(said["class"], said.get("parameters", {}), kind.task or task, pointer=where)
        for said, where in nested(kind, parameters, f"{pointer}/parameters")
    ]
    _require_few(kind, parameters, pointer)
    grid = grid_of(kind, parameters)
    if grid is not None:
        places = list(_grid_mistakes(inner[0], *grid, pointer))
        if places:
            raise EstimatorInvalid("The estimator that is searched does not take these parameters.", errors=places)
    return _made_of(kind, inner)


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
    if kind.numeric and chosen.numeric in NUMERIC and chosen.numeric not in kind.numeric:
        detail = f"must be {' or '.join(kind.numeric)} for this estimator, which takes categories alone"
        places.append({"pointer": f"{pointer}/numeric", "detail": detail})
    if kind.numeric and chosen.categories == "ordinal":
        detail = "must be one_hot for this estimator: it has no answer for a category that training did not see"
        places.append({"pointer": f"{pointer}/categories", "detail": detail})
    if add_indicator and chosen.numeric == "passthrough":
        places.append({"pointer": f"{pointer}/add_indicator", "detail": "needs an imputer: choose impute_median"})
    if places:
        raise EstimatorInvalid("The preprocessing does not fit the estimator.", errors=places)
    return chosen


def nested(kind: EstimatorKind, parameters: Mapping[str, Any], pointer: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The estimators in an estimator's parameters, each with its place."""
    for name, value in parameters.items():
        if isinstance(value, dict) and any(isinstance(rule, Nested) for rule in kind.parameters.get(name, ())):
            yield value, f"{pointer}/{name}"
        elif isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, dict):
                    yield one, f"{pointer}/{name}/{index}"


def grid_of(kind: EstimatorKind, parameters: Mapping[str, Any]) -> tuple[str, Mapping[str, list[Any]]] | None:
    """Which parameter of a search says what is tried, and what."""
    for name, rules in kind.parameters.items():
        if any(isinstance(rule, Grid) for rule in rules) and name in parameters:
            return name, parameters[name]
    return None


def _known(path: str, task: str, pointer: str) -> EstimatorKind:
    kind = ESTIMATORS.get(path)
    where = f"{pointer}/class"
    if kind is None:
        name = path.rpartition(".")[2]
        if path.startswith("sklearn.") and name in SKIPS:
            detail = f"{name} is not trained here: it {SKIPS[name]}"
        else:
            names = [_BY_NAME[name]] if name in _BY_NAME else difflib.get_close_matches(path, ESTIMATORS, 6, 0.6)
            near = [other for other in names if ESTIMATORS[other].task in ("", task)][:2]
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            detail = f"must be one of the {len(ESTIMATORS)} import paths that docs/estimators.md lists{meant}"
        raise EstimatorInvalid(f"Unknown estimator {path[:200]!r}.", errors=[{"pointer": where, "detail": detail}])
    if kind.task not in ("", task):
        allowed = ", ".join(other.name for other in ESTIMATORS.values() if other.task == task)
        detail = f"is for {kind.task}; for {task or 'no task'} choose one of {allowed or 'none'}"
        raise EstimatorInvalid("Estimator and task differ.", errors=[{"pointer": where, "detail": detail}])
    return kind


def _mistakes(kind: EstimatorKind, parameters: Mapping[str, Any], pointer: str) -> Iterator[errors.Place]:
    for name, value in parameters.items():
        detail = _mistake(kind, name, value)
        if detail is not None:
            yield {"pointer": f"{pointer}/parameters/{name}", "detail": detail}
    for name in kind.required:
        if name not in parameters:
            said = " or ".join(map(str, kind.parameters[name]))
            yield {"pointer": f"{pointer}/parameters/{name}", "detail": f"is required: {said}"}


def _mistake(kind: EstimatorKind, name: str, value: Any) -> str | None:
    if name in FORBIDDEN:
        return FORBIDDEN[name]
    if name not in kind.parameters:
        return f"is not a parameter of this estimator here; known are {', '.join(kind.parameters)}"
    return mistake(kind.parameters[name], value)


def _grid_mistakes(
    searched: EstimatorKind, name: str, grid: Mapping[str, list[Any]], pointer: str
) -> Iterator[errors.Place]:
    for parameter, values in grid.items():
        for index, value in enumerate(values):
            detail = _mistake(searched, parameter, value)
            if detail is None and any(True for _ in nested(searched, {parameter: value}, "")):
                detail = "cannot be searched: it is an estimator"
            if detail is not None:
                yield {"pointer": f"{pointer}/parameters/{name}/{parameter}/{index}", "detail": detail}


def _require_few(kind: EstimatorKind, parameters: Mapping[str, Any], pointer: str) -> None:
    """An estimator of estimators of estimators is fitted as often as the product of them says."""
    depth, count, level = 0, 0, list(nested(kind, parameters, pointer))
    while level:
        depth, count = depth + 1, count + len(level)
        level = [
            deeper
            for said, where in level
            for deeper in nested(ESTIMATORS[said["class"]], said.get("parameters", {}), where)
        ]
    if depth > DEEPEST or count > MOST:
        detail = f"is made of {count} estimators, {depth} deep: at most {MOST}, and {DEEPEST} deep"
        raise EstimatorInvalid("The estimator is made of too much.", errors=[{"pointer": pointer, "detail": detail}])


def _made_of(kind: EstimatorKind, inner: list[EstimatorKind]) -> EstimatorKind:
    if not inner:
        return kind
    limits = [one.max_rows for one in (kind, *inner) if one.max_rows]
    ways = [one.numeric for one in inner if one.numeric]
    steps = inner[0].steps if len({one.steps for one in inner}) == 1 else SCALED
    return replace(
        kind,
        steps=BINS if ways else steps,
        takes_missing=kind.takes_missing and all(one.takes_missing for one in inner),
        max_rows=min(limits, default=0),
        numeric=ways[0] if ways else (),
        takes_minus_one=all(one.takes_minus_one for one in (kind, *inner)),
    )
