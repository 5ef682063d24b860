"""FastAPI as a careful user writes it: orjson in and out, the model on the event loop. `uvicorn --factory …:app`."""

from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response

from benchmarks.peers.fitted import load_all


def app() -> Any:
    api, models = FastAPI(), load_all()

    @api.post("/predict/{name}")
    async def predict(name: str, request: Request) -> Response:
        rows = np.array(orjson.loads(await request.body())["inputs"])
        answer = orjson.dumps({"outputs": models[name](rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(answer, media_type="application/json")

    return api
