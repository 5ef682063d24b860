"""A small made world for tests: numbers, categories, times, booleans, with gaps, and a label that depends on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.estimators import ESTIMATORS, estimator_kind, steps_of
from models.matrices import matrix_of
from models.preprocessing import kept, pipeline_of
from models.signature import MISSING_TIME, Arrays, Field, Signature

COLUMNS = (
    Field("distance", "number"),
    Field("wind speed/kt", "number", nullable=True),
    Field("seats", "integer"),
    Field("cargo", "boolean"),
    Field("carrier", "string"),
    Field("label", "string", nullable=True),
    Field("time_hour", "timestamp", nullable=True),
)
MICROSECONDS_OF_YEARS = 20 * 365 * 86_400_000_000


@dataclass(frozen=True)
class World:
    """Rows and what is to be learned of them."""

    arrays: Arrays
    late: NDArray[np.int64]
    delay: NDArray[np.float64]

    def part(self, start: int, stop: int) -> "World":
        """Some of the rows."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        return World(arrays, self.late[start:stop], self.delay[start:stop])


def world_of(rows: int, seed: int = 0, *, gaps: float = 0.1) -> World:
    """As many rows; the same for the same seed."""
    random = np.random.default_rng(seed)
    distance = random.gamma(2, 500, rows)
    wind = random.normal(10, 5, rows)
    seats = random.integers(20, 400, rows)
    cargo = random.random(rows) < 0.3
    carrier = random.choice(np.array(["AA", "B6", "DL", "UA", "ü"], object), rows)
    label = random.choice(np.array(["a", "b", "c"], object), rows)
    times = random.integers(0, MICROSECONDS_OF_YEARS, rows)
    hour = times // 3_600_000_000 % 24
    delay = (
        5 * (carrier == "UA") + wind - 10 + (hour - 12) / 2 + 4 * cargo - distance / 1000 + random.normal(0, 3, rows)
    )
    label[random.random(rows) < gaps] = ""
    wind[random.random(rows) < gaps] = np.nan
    times[random.random(rows) < gaps] = MISSING_TIME
    columns = (distance, wind, seats, cargo, carrier, label, times)
    arrays: dict[str, NDArray[Any]] = {}
    for column, values in zip(COLUMNS, columns, strict=True):
        kinds: dict[str, type] = {"string": object, "timestamp": np.int64}
        arrays[column.name] = values.astype(kinds.get(column.type, np.float32)).reshape(-1, 1)
    return World(arrays, (delay > np.median(delay)).astype(np.int64), delay)


def signature_of(task: str = "classification", classes: tuple[Any, ...] = (0, 1)) -> Signature:
    """The world's signature."""
    return Signature.of(COLUMNS, task, classes if task == "classification" else ())


def columns_of(path: str) -> tuple[Field, ...]:
    """The columns that this estimator can take: all but for the one that takes a single one."""
    return COLUMNS[:1] if path.endswith("IsotonicRegression") else COLUMNS


def fitted(path: str, world: World, targets: NDArray[Any], **choices: Any) -> Any:
    """A pipeline of that estimator, fitted on the world."""
    task = ESTIMATORS[path].task or "classification"
    parameters = choices.pop("parameters", {})
    kind = estimator_kind(path, parameters, task)
    steps = steps_of(kind, choices.get("numeric", "auto"), choices.get("categories", "auto"), "indicator" in choices)
    columns = columns_of(path)
    pipeline = pipeline_of(columns, kind, parameters, steps=steps, seed=0)
    signature = Signature.of(columns, "regression")
    return kept(pipeline.fit(matrix_of(signature, world.arrays), targets))
