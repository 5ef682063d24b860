"""LitServe, one worker for each model. `python -m benchmarks.peers.on_litserve PORT`"""

import sys
from typing import Any

import litserve
import numpy as np

from benchmarks.peers.fitted import NAMES, load


class Served(litserve.LitAPI):
    def __init__(self, name: str, **more: Any) -> None:
        super().__init__(**more)
        self.name = name

    def setup(self, device: Any) -> None:
        self.predicts = load(self.name)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # it reads the type as a form of the body
        return np.asarray(request["inputs"])

    def predict(self, rows: Any) -> Any:
        return self.predicts(rows)

    def encode_response(self, output: Any) -> Any:
        return {"outputs": np.asarray(output).tolist()}


if __name__ == "__main__":
    served = [Served(name, api_path=f"/predict/{name}") for name in (*NAMES, "mlp")]
    server = litserve.LitServer(served, accelerator="cpu", workers_per_device=1, timeout=60)
    quiet = {"generate_client_file": False, "pretty_logs": False, "log_level": "warning", "access_log": False}
    server.run(host="127.0.0.1", port=int(sys.argv[1]), **quiet)
