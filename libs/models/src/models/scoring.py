"""How good a model is on rows that it never saw, and how good a table of rates would have been."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

STRENGTH = 20.0


def classification_metrics(
    truth: NDArray[Any], scores: NDArray[Any] | None, classes: NDArray[Any], labels: NDArray[Any] | None = None
) -> dict[str, float]:
    """ROC AUC, average precision, log loss and accuracy.

    `truth` and `labels` hold indices into `classes`, `scores` is [rows, classes]. Without labels the largest score is
    the one; without scores there is the accuracy alone. With more than two classes ROC AUC and average
    precision are the mean over classes, each against the rest. Both are absent when `truth` has not every class: a
    number would mean nothing.
    """
    known = np.arange(len(classes))
    if labels is not None:
        chosen = labels
    elif scores is not None:
        chosen = scores.argmax(axis=1)
    else:
        raise ValueError("neither labels nor scores")
    found = {"accuracy": metrics.accuracy_score(truth, chosen)}
    if scores is None:
        return {name: float(value) for name, value in found.items()}
    found["log_loss"] = metrics.log_loss(truth, scores, labels=known)
    if len(np.unique(truth)) == len(known):
        positives = known[1:] if len(known) == 2 else known
        pairs = [(truth == index, scores[:, index]) for index in positives]
        found["roc_auc"] = np.mean([metrics.roc_auc_score(is_one, score) for is_one, score in pairs])
        found["average_precision"] = np.mean(
            [metrics.average_precision_score(is_one, score) for is_one, score in pairs]
        )
    return {name: float(value) for name, value in found.items()}


def regression_metrics(truth: NDArray[Any], values: NDArray[Any]) -> dict[str, float]:
    """Root mean squared error, mean absolute error and R²; R² is absent when it has no meaning (fewer than 2 rows)."""
    found = {
        "rmse": metrics.root_mean_squared_error(truth, values),
        "mae": metrics.mean_absolute_error(truth, values),
    }
    if len(truth) > 1:
        found["r2"] = metrics.r2_score(truth, values)
    return {name: float(value) for name, value in found.items()}


def smoothed_means(
    groups: list[NDArray[Any]], targets: NDArray[Any], asked: list[NDArray[Any]], *, strength: float = STRENGTH
) -> NDArray[np.float64]:
    """The baseline: each group's mean, drawn towards the mean of all by `strength` rows that are worth that mean.

    `groups` and `asked` are columns (as many of each), `targets` is [rows, outputs]. A group that training never saw
    gets the mean of all. This is the m-estimate of B. Cestnik, "Estimating probabilities: a crucial task in machine
    learning" (ECAI 1990), as used for categories by D. Micci-Barreca, "A preprocessing scheme for high-cardinality
    categorical attributes in classification and prediction problems" (SIGKDD Explorations 3(1), 2001).
    """
    rows = len(targets)
    codes = np.zeros(rows + len(asked[0]), np.int64)
    for known, other in zip(groups, asked, strict=True):
        both = np.concatenate([known, other])
        _, column = np.unique(both.astype(str) if both.dtype == object else both, return_inverse=True)
        _, codes = np.unique(codes * (column.max() + 1) + column, return_inverse=True)
    count = np.bincount(codes[:rows], minlength=codes.max() + 1)[:, None]
    sums = np.stack([np.bincount(codes[:rows], weights=column, minlength=len(count)) for column in targets.T], axis=1)
    means: NDArray[np.float64] = (sums + strength * targets.mean(axis=0)) / (count + strength)
    return means[codes[rows:]]
