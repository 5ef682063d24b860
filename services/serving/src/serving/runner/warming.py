"""The first answers of a model: they fill its caches, prove that it answers, and tell what an answer costs."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kit import errors
from models import rows
from models.runners import Runner
from models.signature import Arrays, Signature
from serving.domain.revisions import Target

TIMED = 5
SAMPLE: Mapping[str, Any] = {
    "number": 0.0,
    "integer": 0,
    "boolean": False,
    "string": "",
    "timestamp": datetime(2000, 1, 1, tzinfo=UTC).isoformat(),
}


def warm(model: Runner, target: Target) -> float:
    """Ask the model for its own example until it is warm. The seconds that one row takes it."""
    arrays = example_of(model.signature, target)
    model.signature.answers_of(model.predict(arrays))
    times = []
    for _ in range(TIMED):
        began = time.perf_counter()
        model.predict(arrays)
        times.append(time.perf_counter() - began)
    return min(times)


def example_of(signature: Signature, target: Target) -> Arrays:
    """One row that the model takes: of its own example, or a made one."""
    made = {column.name: SAMPLE[column.type] for column in signature.inputs}
    for row in (*target.example[:1], made):
        try:
            return rows.arrays_of(signature, {"rows": [row]})
        except errors.Invalid:
            continue
    raise AssertionError("the made row fits every signature")  # pragma: no cover
