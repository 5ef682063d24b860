"""Rows where a twin is most likely to answer differently: around the model's own thresholds, and far from all data.

A threshold of a tree is met by no row of a held-out sample, so a threshold that conversion moved by one float32 would
show nowhere. Here some held-out rows get the values beside it, in the column that it is asked of.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.naive_bayes import BernoulliNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, StandardScaler

from models.equivalents import parts_of
from models.signature import Arrays, Signature

MOST = 4_000
STEPS = (-2, -1, 0, 1, 2)  # float32 beside a threshold
FAR = (0.0, -0.0, 1e-45, 1e-38, 1e4, -1e4, 1e7, -1e7, 1e12, -1e12, 1e20, -1e20, 3.4028235e38, -3.4028235e38)


def edge_rows(pipeline: Any, signature: Signature, arrays: Arrays) -> Arrays:
    """Copies of rows with one number beside a threshold; as many rows as there were when the model knows none."""
    asked = _sample(list(_asked(pipeline)))
    rows = len(next(iter(arrays.values())))
    random = np.random.default_rng(0)
    places = random.integers(0, rows, max(1, len(asked) * len(STEPS)))
    made = {name: array[places].copy() for name, array in arrays.items()}
    for index, (column, value) in enumerate(asked):
        near = made[signature.names[column]]
        for step, row in zip(STEPS, range(index * len(STEPS), (index + 1) * len(STEPS)), strict=True):
            near[row, 0] = _beside(value, step)
    return made


def far_rows(signature: Signature, arrays: Arrays) -> Arrays:
    """Copies of rows with one number far from all data, or the least that float32 can tell from zero."""
    columns = [index for index, column in enumerate(signature.inputs) if column.type == "number"]
    rows = len(next(iter(arrays.values())))
    asked = [(column, value) for column in columns for value in FAR][:MOST]
    places = np.arange(max(1, len(asked))) % rows
    made = {name: array[places].copy() for name, array in arrays.items()}
    for row, (column, value) in enumerate(asked):
        made[signature.names[column]][row, 0] = value
    return made


def _beside(value: float, step: int) -> np.float32:
    near = np.float32(value)
    for _ in range(abs(step)):
        near = np.nextafter(near, np.float32(np.inf if step > 0 else -np.inf))
    return near


def _sample(asked: list[tuple[int, float]]) -> list[tuple[int, float]]:
    most = MOST // len(STEPS)
    if len(asked) <= most:
        return asked
    return [asked[index] for index in np.linspace(0, len(asked) - 1, most).astype(int)]


def _asked(pipeline: Any) -> Iterator[tuple[int, float]]:
    """Which column is compared with which number, as the column has it before it is scaled."""
    columns = pipeline[0]
    if not isinstance(columns, ColumnTransformer):
        return
    numbers = dict(enumerate(_numbers(columns)))
    with np.errstate(over="ignore", invalid="ignore"):
        for feature, threshold in _thresholds(pipeline[-1]):
            for one, value in zip(feature.tolist(), threshold.tolist(), strict=True):
                if one in numbers and np.isfinite(value):
                    column, scale, offset = numbers[one]
                    yield column, value * scale + offset
        for name, step, where in columns.transformers_:
            if name == "numbers":
                for column, edges in zip(where, _bins(step), strict=False):
                    yield from ((column, edge) for edge in edges)


def _numbers(columns: ColumnTransformer) -> list[tuple[int, float, float]]:
    """Of each feature that is a number: its column, and what undoes its scaling. They come first."""
    name, step, where = columns.transformers_[0]
    if name != "numbers":
        return []
    scaler = step[-1] if isinstance(step, Pipeline) else None
    scale, offset = np.ones(len(where)), np.zeros(len(where))
    if isinstance(scaler, StandardScaler):
        scale, offset = scaler.scale_, scaler.mean_
    elif isinstance(scaler, MinMaxScaler):
        scale, offset = 1 / scaler.scale_, -scaler.min_ / scaler.scale_
    return list(zip(where, np.asarray(scale)[: len(where)], np.asarray(offset)[: len(where)], strict=True))


def _bins(step: Any) -> list[NDArray[np.float64]]:
    last = step[-1] if isinstance(step, Pipeline) else step
    return list(last.bin_edges_) if isinstance(last, KBinsDiscretizer) else []


def _thresholds(estimator: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    for one in parts_of(estimator):
        tree, nodes = getattr(one, "tree_", None), getattr(one, "nodes", None)
        if tree is not None:
            inner = tree.feature >= 0
            yield tree.feature[inner], tree.threshold[inner]
        elif isinstance(nodes, np.ndarray) and nodes.dtype.names and "num_threshold" in nodes.dtype.names:
            inner = nodes[nodes["is_leaf"] == 0]
            yield inner["feature_idx"].astype(np.int64), inner["num_threshold"]
        elif isinstance(one, BernoulliNB) and one.binarize is not None:
            features = np.arange(one.n_features_in_)
            yield features, np.full(len(features), float(one.binarize))
