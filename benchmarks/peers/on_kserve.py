"""KServe's Python server with one model each (its first protocol). The arguments are its own."""

from typing import Any

import kserve
import numpy as np

from benchmarks.peers.fitted import NAMES, load


class Served(kserve.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self.predicts = load(self.name)
        self.ready = True
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        return {"predictions": self.predicts(np.asarray(payload["instances"])).tolist()}


if __name__ == "__main__":
    kserve.ModelServer().start([Served(name) for name in (*NAMES, "mlp")])
