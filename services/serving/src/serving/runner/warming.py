"""The first answers of a model: they fill its caches, prove that it answers, and tell what an answer costs."""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import errors
from models import rows
from models.runners import Runner
from models.signature import Arrays
from models.tensor_signature import BYTES, AnySignature, TensorSignature
from serving.domain.revisions import Target

TIMED = 5
UNKNOWN = 3600.0
"""Seconds that are said of a model that could not be timed."""
SAMPLE: Mapping[str, Any] = {
    "number": 0.0,
    "integer": 0,
    "boolean": False,
    "string": "",
    "timestamp": datetime(2000, 1, 1, tzinfo=UTC).isoformat(),
}


def warm(model: Runner, target: Target) -> float:
    """Ask the model for its own example until it is warm. The seconds that one row takes it.

    What is made up of sizes that may vary, and of BYTES, may be nothing that a model of tensors takes: if it has no
    example of its own, its failure at that says nothing, and it is believed to be slow.
    """
    own = _own(model.signature, target)
    arrays = _made(model.signature) if own is None else own
    try:
        model.signature.answers_of(model.predict(arrays))
    except errors.Error:
        if own is None and _may_be_wrong(model.signature):
            return UNKNOWN
        raise
    times = []
    for _ in range(TIMED):
        began = time.perf_counter()
        model.predict(arrays)
        times.append(time.perf_counter() - began)
    return min(times)


def example_of(signature: AnySignature, target: Target) -> Arrays:
    """One row that the model takes: of its own example, or a made one."""
    own = _own(signature, target)
    return _made(signature) if own is None else own


def _own(signature: AnySignature, target: Target) -> Arrays | None:
    for row in target.example[:1]:
        with suppress(errors.Invalid):
            return rows.arrays_of(signature, {"rows": [row]})
    return None


def _made(signature: AnySignature) -> Arrays:
    if isinstance(signature, TensorSignature):
        return {it.name: _zeros(it.datatype, it.shape, it.dtype) for it in signature.inputs}
    return rows.arrays_of(signature, {"rows": [{it.name: SAMPLE[it.type] for it in signature.inputs}]})


def _zeros(datatype: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.full([max(size, 1) for size in shape], b"" if datatype == BYTES else 0, dtype)


def _may_be_wrong(signature: AnySignature) -> bool:
    if not isinstance(signature, TensorSignature):
        return False
    return any(it.datatype == BYTES or -1 in it.shape[signature.is_batched :] for it in signature.inputs)
