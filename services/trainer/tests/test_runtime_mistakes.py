"""What the author of a job got wrong is said with a hint, and never tried again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from attempts_at_work import Attempt

from trainer.domain.attempts import Exit, Outcome

Spec = dict[str, Any]
Run = Callable[..., tuple[Exit, Any]]

TREE = {"class": "sklearn.tree.DecisionTreeClassifier"}


def constant(table: pa.Table, value: object, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.column_names.index("late"), "late", pa.array([value] * len(table), kind))


MISTAKES: dict[str, tuple[Callable[[pa.Table, pa.Table], tuple[pa.Table, pa.Table | None, Spec]], str, str]] = {
    "no such target": (lambda t, h: (t, h, {"target": "lateness"}), "no column 'lateness'", "carrier"),
    "no such feature": (lambda t, h: (t, h, {"features": ["hour", "fog"]}), "no column 'fog'", "carrier"),
    "no such baseline": (lambda t, h: (t, h, {"baseline": ["fog"]}), "no column 'fog'", "carrier"),
    "the target as a feature": (lambda t, h: (t, h, {"features": ["late"]}), "cannot tell itself", "Take it out"),
    "a text to regress": (
        lambda t, h: (t, h, {"task": "regression", "target": "carrier", "features": ["hour"]} | RIDGE),
        "not a number",
        "classification",
    ),
    "an infinite number to regress": (
        lambda t, h: (constant(t, np.inf, pa.float64()), h, {"task": "regression"} | RIDGE),
        "infinite",
        "range check",
    ),
    "fractions to classify": (
        lambda t, h: (t, h, {"target": "delay", "features": ["hour"]}),
        "has no classes",
        "regression",
    ),
    "a time to classify": (
        lambda t, h: (t, h, {"target": "time_hour", "features": ["hour"]}),
        "has no classes",
        "regression",
    ),
    "one class only": (lambda t, h: (constant(t, True, pa.bool_()), h, {}), "one class only", "two classes"),
    "a class per row": (
        lambda t, h: (t.set_column(7, "late", pa.array(range(1500))), h, {}),
        "1500 classes",
        "identifier",
    ),
    "a text per row": (
        lambda t, h: (t.set_column(7, "late", pa.array(["a" * 1025, "b", "c"] * 500)), h, {}),
        "more than 1024 characters",
        "rather than a class",
    ),
    "no class known": (
        lambda t, h: (
            t.set_column(7, "late", pa.array(np.arange(1500) % 2)),
            h.set_column(7, "late", pa.array([5] * 600)),
            {},
        ),
        "No class of the rows held out",
        "split",
    ),
    "all null": (lambda t, h: (constant(t, None, pa.bool_()), h, {}), "null in every row", "source"),
    "a feature of nulls": (
        lambda t, h: (t.set_column(2, "wind", pa.array([None] * 1500, pa.float64())), h, {}),
        "'wind' is null in every training row",
        "Leave it out",
    ),
    "an infinite feature": (
        lambda t, h: (t.set_column(2, "wind", pa.array([1e39] * 1500)), h, {}),
        "float32 cannot hold",
        "range check",
    ),
    "a feature of lists": (
        lambda t, h: (t.append_column("list", pa.array([[1]] * 1500)), h, {"features": ["list"]}),
        "no model takes",
        "Leave it out",
    ),
    "nothing but the target": (
        lambda t, h: (t.select(["late"]), h.select(["late"]), {"features": None}),
        "no column to learn from",
        "Name features",
    ),
    "no rows": (lambda t, h: (t.slice(0, 0), h, {}), "no rows to train on", "split"),
    "nothing held out": (lambda t, h: (t, None, {}), "held_out split", "held_out"),
    "an unknown estimator": (
        lambda t, h: (t, h, {"estimator": {"class": "os.system"}}),
        "Unknown estimator",
        "docs/estimators.md",
    ),
    "an estimator that is left out": (
        lambda t, h: (t, h, {"estimator": {"class": "sklearn.cluster.KMeans"}}),
        "Unknown estimator",
        "without a target",
    ),
    "more rows than the estimator can take": (
        lambda t, h: (pa.concat_tables([t] * 4), h, {"estimator": PROCESS}),
        "learns from 5000 rows at most, and there are 6000",
        "another estimator",
    ),
    "a class that says that there is no label": (
        lambda t, h: (
            t.set_column(7, "late", pa.array([-1, 1] * 750)),
            h.set_column(7, "late", pa.array([-1, 1] * 300)),
            {"estimator": {"class": "sklearn.semi_supervised.LabelSpreading"}},
        ),
        "no label",
        "another number",
    ),
    "estimators that cannot do what another asks of them": (
        lambda t, h: (t, h, {"estimator": {"class": VOTING, "parameters": {"voting": "soft", "estimators": [MARGIN]}}}),
        "cannot answer",
        "Choose another estimator",
    ),
    "neighbours that are too far": (
        lambda t, h: (t, h, {"task": "regression", "target": "delay", "features": ["wind"], "estimator": RADIUS}),
        "what is not a number",
        "larger",
    ),
    "an estimator that the data does not fit": (
        lambda t, h: (
            t.set_column(7, "late", pa.array(-np.ones(1500))),
            h.set_column(7, "late", pa.array(-np.ones(600))),
            {"task": "regression", "estimator": POISSON},
        ),
        "cannot be fitted",
        "parameters",
    ),
}
PROCESS: Spec = {"class": "sklearn.gaussian_process.GaussianProcessClassifier"}
VOTING = "sklearn.ensemble.VotingClassifier"
MARGIN: Spec = {"class": "sklearn.svm.LinearSVC"}
RADIUS: Spec = {"class": "sklearn.neighbors.RadiusNeighborsRegressor", "parameters": {"radius": 1e-9}}
RIDGE: Spec = {"estimator": {"class": "sklearn.linear_model.Ridge"}}
POISSON: Spec = {"class": "sklearn.ensemble.HistGradientBoostingRegressor", "parameters": {"loss": "poisson"}}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_author_is_said_with_a_hint_and_not_tried_again(
    run: Run, tmp_path: Path, attempt: Attempt, table: pa.Table, held_out: pa.Table, mistake: Any
) -> None:
    change, said, hint = MISTAKES[mistake]
    train, other, spec = change(table, held_out)
    code, result = run(train=train, held_out=other, **spec)
    assert (code, result.outcome) == (Exit.USER_ERROR, Outcome.USER_ERROR), result
    assert said in result.message
    assert hint in result.hint
    assert result.model is None
    assert any(said in line for line in attempt.lines)
