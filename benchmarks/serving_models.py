"""What the servers of benchmarks/serving.py are asked: models, one request for each workload, and the right answer.

The data goes to a file that every peer trains the same estimators on, in its own environment; ours are trained and
converted as the trainer does it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.datasets import load_iris, make_classification

from models import formats, twin
from models.estimators import estimator_kind, steps_of
from models.examples import rows_of
from models.matrices import matrix_of
from models.preprocessing import pipeline_of
from models.rows import arrays_of
from models.signature import Field, Signature

DATA = "data.npz"
ENSEMBLE, LINEAR = "sklearn.ensemble", "sklearn.linear_model"
CONVERSION = timedelta(minutes=3)


@dataclass(frozen=True)
class Workload:
    """One kind of request."""

    name: str
    title: str
    model: str
    """`rf`, `lr`, `hgb` or `mlp`, as peers call it."""
    connections: int
    least: float
    """What ours must reach, in ratio to the best peer (docs say so of each)."""
    form: str = "json"
    """`json`, or `binary`: what ours is asked in; peers are asked in their own JSON."""
    original: bool = False
    """Whether ours has no ONNX twin of the model."""
    rows: int = 1

    @property
    def deployment(self) -> str:
        return f"{self.model}-original" if self.original else self.model


FOREST, ORIGINAL, BOOSTING = "RandomForest(100), 1 row", "the same, not converted", "HistGradientBoosting, 100 by 100"
NETWORK = "MLP 784-256-128-10"
WORKLOADS = (
    Workload("rf-1", FOREST, "rf", 1, 30),
    Workload("rf-64", FOREST, "rf", 64, 10),
    Workload("rf-original-1", ORIGINAL, "rf", 1, 1, original=True),
    Workload("rf-original-64", ORIGINAL, "rf", 64, 3, original=True),
    Workload("lr-64", "LogisticRegression, 1 row", "lr", 64, 10),
    Workload("hgb-8", BOOSTING, "hgb", 8, 2, rows=100),
    Workload("hgb-binary-8", BOOSTING, "hgb", 8, 5, "binary", rows=100),
    Workload("mlp-64", f"{NETWORK}, 1 row", "mlp", 64, 5),
    Workload("mlp-binary-64", f"{NETWORK}, 1 row", "mlp", 64, 9, "binary"),
    Workload("mlp-rows-8", f"{NETWORK}, 64 rows", "mlp", 8, 1.4, rows=64),
    Workload("mlp-rows-binary-8", f"{NETWORK}, 64 rows", "mlp", 8, 12, "binary", rows=64),
)
LAYERS = (784, 256, 128, 10)
ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "rf": (f"{ENSEMBLE}.RandomForestClassifier", {"n_estimators": 100}),
    "lr": (f"{LINEAR}.LogisticRegression", {"max_iter": 500}),
    "hgb": (f"{ENSEMBLE}.HistGradientBoostingClassifier", {}),
}
"""By model: its class and its parameters. Ours has the preprocessing that a job has by itself; peers have none."""
JUDGED = 200


@dataclass(frozen=True)
class Data:
    """What a model learns, and what it is asked."""

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    asked: NDArray[np.float64]


def data() -> dict[str, Data]:
    """By model. The same numbers for the same release of scikit-learn."""
    iris, species = load_iris(return_X_y=True)
    wide, classes = make_classification(5000, 100, n_informative=40, random_state=0)
    wide = np.round(wide, 4)
    flowers = Data(iris, species, iris[:1])
    return {"rf": flowers, "lr": flowers, "hgb": Data(wide, classes, wide[:100])}


def weights() -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of the network, layer by layer: made, not learnt, since what they are costs nothing."""
    chance = np.random.default_rng(0)
    made = []
    for take, give in pairwise(LAYERS):
        bound = take**-0.5
        made.append((_uniform(chance, bound, (take, give)), _uniform(chance, bound, (give,))))
    return made


def _uniform(chance: np.random.Generator, bound: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return chance.uniform(-bound, bound, shape).astype(np.float32)


def pictures() -> NDArray[np.float64]:
    """What the network is asked, 64 rows of it."""
    return np.round(np.random.default_rng(1).random((64, LAYERS[0])), 4)


def write(folder: Path, made: dict[str, Data]) -> None:
    """For peers: arrays named `rf_x`, `rf_y` …, and the weights of the network."""
    arrays: dict[str, NDArray[Any]] = {
        f"{name}_{part}": getattr(it, part) for name, it in made.items() for part in "xy"
    }
    for index, (matrix, bias) in enumerate(weights()):
        arrays |= {f"mlp_w{index}": matrix, f"mlp_b{index}": bias}
    np.savez(folder / DATA, **arrays)  # type: ignore[arg-type]  # its last parameter is a flag


@dataclass(frozen=True)
class Made:
    """A model as the trainer would register it, and what its own library answers."""

    signature: dict[str, Any]
    files: dict[str, bytes]
    """By format: `skops`, and `onnx` where the twin was kept."""
    verdict: dict[str, Any] | None
    example: Sequence[dict[str, Any]]
    answers: NDArray[Any]
    """To the rows that are asked: labels, or the outputs of the network."""
    dataset: str
    """Digest of what it has learnt from."""

    def without_twin(self) -> "Made":
        """As it is where the twin was refused."""
        files = {kind: content for kind, content in self.files.items() if kind != "onnx"}
        return replace(self, files=files, verdict=None)


def train(name: str, given: Data, folder: Path) -> Made:
    """Fit one model and have its twin made and judged, in a folder of its own."""
    path, parameters = ESTIMATORS[name]
    columns = tuple(Field(f"x{index}", "number") for index in range(given.x.shape[1]))
    signature = Signature.of(columns, "classification", sorted(set(given.y.tolist())))
    kind = estimator_kind(path, parameters, "classification")
    pipeline = pipeline_of(columns, kind, parameters, steps=steps_of(kind, "auto", "auto", False), seed=0)
    arrays = arrays_of(signature, rows_body(given.x))
    pipeline.fit(matrix_of(signature, arrays), given.y)
    folder.mkdir()
    (folder / twin.SKOPS).write_bytes(formats.dumps(pipeline))
    judged = arrays_of(signature, rows_body(given.x[:JUDGED]))
    verdict = twin.make(folder, signature, judged, deadline=CONVERSION)
    files = {"skops": (folder / twin.SKOPS).read_bytes()}
    if verdict.kept:
        files["onnx"] = (folder / twin.ONNX).read_bytes()
    labels = pipeline.predict(matrix_of(signature, arrays_of(signature, rows_body(given.asked))))
    digest = _digest(given.x.tobytes() + given.y.tobytes())
    return Made(
        signature.to_json(), files, verdict.to_json(), rows_of(signature, arrays, 2), np.asarray(labels), digest
    )


def network() -> Made:
    """The network as ONNX, and the answers to all of its pictures."""
    nodes, values, flow = [], [], "x"
    answers = pictures().astype(np.float32)
    layers = weights()
    for index, (matrix, bias) in enumerate(layers):
        values += [onnx.numpy_helper.from_array(matrix, f"w{index}"), onnx.numpy_helper.from_array(bias, f"b{index}")]
        last = index == len(layers) - 1
        made = "y" if last else f"h{index}"
        nodes.append(onnx.helper.make_node("Gemm", [flow, f"w{index}", f"b{index}"], [made]))
        answers, flow = answers @ matrix + bias, made
        if not last:
            nodes.append(onnx.helper.make_node("Relu", [flow], [f"r{index}"]))
            answers, flow = np.maximum(answers, 0), f"r{index}"
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, size])
        for name, size in (("x", LAYERS[0]), ("y", LAYERS[-1]))
    ]
    graph = onnx.helper.make_graph(nodes, "network", ends[:1], ends[1:], values)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    signature = {
        "task": "tensors",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, LAYERS[0]]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, LAYERS[-1]]}],
        "classes": [],
    }
    content = model.SerializeToString()
    return Made(signature, {"onnx": content}, None, [], answers, _digest(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def rows_body(x: NDArray[np.float64]) -> dict[str, Any]:
    """Rows as arrays, for `/v1/deployments/{name}/predict`."""
    return {"columns": [f"x{index}" for index in range(x.shape[1])], "rows": x.tolist()}
