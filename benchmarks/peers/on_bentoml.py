"""BentoML, one worker, without its timed batching, which costs the lone request its delay."""

import bentoml
import numpy as np

from benchmarks.peers.fitted import load_all


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": None})
class Served:
    def __init__(self) -> None:
        self.models = load_all()

    @bentoml.api(route="/predict/rf")
    def rf(self, inputs: np.ndarray) -> np.ndarray:
        return self.models["rf"](inputs)

    @bentoml.api(route="/predict/lr")
    def lr(self, inputs: np.ndarray) -> np.ndarray:
        return self.models["lr"](inputs)

    @bentoml.api(route="/predict/hgb")
    def hgb(self, inputs: np.ndarray) -> np.ndarray:
        return self.models["hgb"](inputs)

    @bentoml.api(route="/predict/mlp")
    def mlp(self, inputs: np.ndarray) -> np.ndarray:
        return self.models["mlp"](inputs)
