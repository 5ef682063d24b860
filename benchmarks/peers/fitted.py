"""The models of benchmarks/serving.py, trained in the environment of a peer on the data that all have.

    python -m benchmarks.peers.fitted FOLDER        once, before a server begins: so that it starts by loading alone

FOLDER holds `data.npz`; models are kept beside it by joblib, in files of this environment that nobody else reads.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

joblib: Any = import_module("joblib")
Predict = Callable[[Any], Any]
NAMES = ("rf", "lr", "hgb")


def folder() -> Path:
    """Of this environment's models."""
    return Path(os.environ["BENCH_MODELS"])


def fit(home: Path) -> None:
    ensemble, linear = import_module("sklearn.ensemble"), import_module("sklearn.linear_model")
    made = {
        "rf": ensemble.RandomForestClassifier(100, random_state=0),
        "lr": linear.LogisticRegression(max_iter=500),
        "hgb": ensemble.HistGradientBoostingClassifier(random_state=0),
    }
    data = np.load(home / "data.npz")
    for name, model in made.items():
        joblib.dump(model.fit(data[f"{name}_x"], data[f"{name}_y"]), folder() / f"{name}.joblib")
    np.savez(folder() / "mlp.npz", **{name: data[name] for name in data.files if name.startswith("mlp_")})


class Network:
    """784-256-128-10 in torch; a class of its own, since some servers send it to their workers."""

    def __init__(self) -> None:
        torch: Any = import_module("torch")
        torch.set_num_threads(1)
        weights = np.load(folder() / "mlp.npz")
        layers: list[Any] = []
        for index in range(3):
            matrix = weights[f"mlp_w{index}"]
            linear = torch.nn.Linear(*matrix.shape)
            linear.weight.data = torch.from_numpy(matrix.T.copy())
            linear.bias.data = torch.from_numpy(weights[f"mlp_b{index}"])
            layers += [linear, torch.nn.ReLU()]
        self._net = torch.nn.Sequential(*layers[:-1]).eval()

    def __call__(self, rows: Any) -> Any:
        torch: Any = import_module("torch")
        with torch.inference_mode():
            return self._net(torch.as_tensor(rows, dtype=torch.float32)).numpy()


def load(name: str) -> Predict:
    """A model as a callable of a batch of rows."""
    if name == "mlp":
        return Network()
    predict: Predict = joblib.load(folder() / f"{name}.joblib").predict
    return predict


def load_all() -> dict[str, Predict]:
    """By name."""
    return {name: load(name) for name in (*NAMES, "mlp")}


if __name__ == "__main__":
    fit(Path(sys.argv[1]))
