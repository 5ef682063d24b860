"""Ray Serve, two replicas of each model with batching. `python -m benchmarks.peers.on_ray PORT FOLDER`"""

import signal
import sys
import threading
from typing import Any

import numpy as np
import ray
from ray import serve

from benchmarks.peers.fitted import NAMES, load


class Served:
    def __init__(self, name: str) -> None:
        self.predicts = load(name)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def run(self, asked: list[Any]) -> list[Any]:
        answers = self.predicts(np.concatenate(asked))
        ends = np.cumsum([len(rows) for rows in asked])
        return np.split(answers, ends[:-1])

    async def __call__(self, request: Any) -> Any:
        document = await request.json()
        return {"outputs": (await self.run(np.asarray(document["inputs"]))).tolist()}


if __name__ == "__main__":
    port, home = int(sys.argv[1]), sys.argv[2]
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    ray.init(num_cpus=8, object_store_memory=200 << 20, _temp_dir=home, **quiet)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
    for name in (*NAMES, "mlp"):
        options = {"name": name, "num_replicas": 2, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.5}}
        serve.run(serve.deployment(Served, **options).bind(name), name=name, route_prefix=f"/predict/{name}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
    ray.shutdown()
