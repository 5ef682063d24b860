"""A small made world: rows, and models that the platform's own trainer could have made of them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from models import formats
from models.conversions import onnx_of
from models.estimators import estimator_kind, steps_of
from models.examples import rows_of
from models.matrices import matrix_of
from models.preprocessing import pipeline_of
from models.rows import arrays_of
from models.signature import Field, Signature

COLUMNS = (
    Field("distance", "number"),
    Field("wind/kt", "number", nullable=True),
    Field("seats", "integer"),
    Field("cargo", "boolean"),
    Field("carrier", "string", nullable=True),
    Field("at", "timestamp"),
)
LOGISTIC = "sklearn.linear_model.LogisticRegression"
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
REGRESSOR = "sklearn.ensemble.HistGradientBoostingRegressor"


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """As many, with gaps; the same for the same seed."""
    random = np.random.default_rng(seed)
    return [
        {
            "distance": float(random.integers(100, 3000)),
            "wind/kt": None if random.random() < 0.1 else round(float(random.normal(15, 8)), 2),
            "seats": int(random.integers(20, 400)),
            "cargo": bool(random.random() < 0.3),
            "carrier": None if random.random() < 0.1 else str(random.choice(["AA", "B6", "ü"])),
            "at": f"2013-{random.integers(1, 13):02}-{random.integers(1, 29):02}T{random.integers(0, 24):02}:00:00Z",
        }
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Trained:
    """A model as the registry keeps it, and the estimator itself."""

    pipeline: Any
    signature: Signature
    files: dict[str, bytes]
    """By format."""
    example: list[dict[str, Any]]

    def predict(self, asked: list[dict[str, Any]]) -> tuple[list[Any], Any]:
        """Labels and scores (or values and None) as scikit-learn itself says them."""
        matrix = matrix_of(self.signature, arrays_of(self.signature, {"rows": asked}))
        if self.signature.task == "regression":
            return self.pipeline.predict(matrix).tolist(), None
        return self.pipeline.predict(matrix).tolist(), self.pipeline.predict_proba(matrix)


@cache
def trained(
    path: str = BOOSTING,
    *,
    seed: int = 0,
    twin: bool = True,
    classes: tuple[Any, ...] = (False, True),
    columns: tuple[Field, ...] = COLUMNS,
) -> Trained:
    """A model of that estimator, fitted on these columns of the world."""
    asked = [{column.name: row[column.name] for column in columns} for row in rows(400, seed)]
    task = "regression" if path == REGRESSOR else "classification"
    signature = Signature.of(columns, task, classes if task == "classification" else ())
    arrays = arrays_of(signature, {"rows": asked})
    noise = np.random.default_rng(seed).normal(0, 0.3, len(asked))
    late = (arrays["seats"][:, 0] / 200 + arrays["cargo"][:, 0] + noise) > 1.2
    targets = late.astype(float) * 3 + noise if task == "regression" else np.array(classes)[late.astype(int)]
    parameters = {} if path == LOGISTIC else {"max_iter": 10}
    kind = estimator_kind(path, parameters, task)
    steps = steps_of(kind, "auto", "auto", False)
    pipeline = pipeline_of(columns, kind, parameters, steps=steps, seed=seed)
    pipeline.fit(matrix_of(signature, arrays), targets)
    files = {"skops": formats.dumps(pipeline)}
    if twin:
        files["onnx"] = onnx_of(pipeline, signature)
    return Trained(pipeline, signature, files, rows_of(signature, arrays, 2))
