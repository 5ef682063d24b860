"""MLServer with its adaptive batching, in one process. `python -m benchmarks.peers.on_mlserver PORT`"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, NumpyRequestCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.fitted import NAMES, folder, load


class Served(MLModel):
    async def load(self) -> bool:
        self.predicts = load(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode_request(payload, default_codec=NumpyRequestCodec)
        outputs = [NumpyCodec.encode_output("y", self.predicts(rows))]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def configure(port: int) -> Path:
    """A model repository as it wants one. Its ports of gRPC and metrics are those behind the first."""
    home = folder() / "repository"
    home.mkdir(exist_ok=True)
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    said = {"debug": False, "host": "127.0.0.1", **ports, "parallel_workers": 0, "gzip_enabled": False}
    (home / "settings.json").write_text(json.dumps({**said, "metrics_dir": str(home)}))
    for name in (*NAMES, "mlp"):
        (home / name).mkdir(exist_ok=True)
        batching = {"max_batch_size": 64, "max_batch_time": 0.002}
        model: dict[str, Any] = {"name": name, "implementation": f"{__spec__.name}.Served", **batching}
        (home / name / "model-settings.json").write_text(json.dumps(model))
    return home


if __name__ == "__main__":
    os.chdir(configure(int(sys.argv[1])))
    os.execvp("mlserver", ["mlserver", "start", "."])  # noqa: S606, S607 - of this environment
