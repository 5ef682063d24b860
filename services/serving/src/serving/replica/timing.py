"""What a warm model costs: one part whatever the rows, which `warm` saw, and one for each row more."""

import time
from collections.abc import Awaitable, Callable

import numpy as np

from kit import errors
from models.runners import Runner
from models.signature import Arrays, Columns, Prediction
from models.tensor_signature import AnySignature
from serving.domain.costs import Cost

TOGETHER = 8
"""Rows that a model is asked for at once to see what one more of them costs."""
QUICK, MORE = 500e-6, 64
"""Seconds of one row below which it is asked for so many: what one of them costs is lost in what the call costs."""
TIMES = 2


def cost_of(model: Runner, arrays: Arrays, one: float) -> Cost:
    """Of a model that takes `one` second for these arrays of one row. One that takes no more of them at once costs as
    much for each."""
    if model.signature.joins(arrays) is None:
        return Cost(0.0, one)
    count = MORE if one < QUICK else TOGETHER
    many = _many(arrays, count)
    took = float("inf")
    try:
        for _ in range(TIMES):
            began = time.perf_counter()
            model.predict(many)
            took = min(took, time.perf_counter() - began)
    except Exception:  # noqa: BLE001 - an estimator may say no in any way
        return Cost(0.0, one)
    return Cost.between(one, took, count)


async def cost_beside(
    ask: Callable[[Arrays], Awaitable[Prediction]], signature: AnySignature, arrays: Arrays, one: float
) -> Cost:
    """The same of a model that is asked elsewhere. The way there is part of what it costs.

    Raises:
        errors.Unavailable: it is not there any more.
    """
    if signature.joins(arrays) is None:
        return Cost(0.0, one)
    count = MORE if one < QUICK else TOGETHER
    many = _many(arrays, count)
    took = float("inf")
    try:
        for _ in range(TIMES):
            began = time.perf_counter()
            await ask(many)
            took = min(took, time.perf_counter() - began)
    except errors.Corrupt:
        return Cost(0.0, one)
    return Cost.between(one, took, count)


def _many(arrays: Arrays, count: int) -> Arrays:
    if isinstance(arrays, Columns):
        return Columns(arrays.names, np.repeat(arrays.matrix, count, axis=0))
    return {name: np.repeat(array, count, axis=0) for name, array in arrays.items()}
