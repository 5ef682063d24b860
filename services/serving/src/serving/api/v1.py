"""KServe's first protocol: `POST /v1/models/{name}:predict`, and no more of it, since `/v1/models` is the registry's.

The gateway tells it from the registry's paths by its end. A model there is a deployment here. Errors are
`{"error": "…"}`, as in the protocol's second version.
"""

import orjson
from starlette.types import Receive, Scope

from kit.callers import Access, Role
from kit.routes import RawRoute
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature
from serving.api import documents, hurry, strict
from serving.api.inference import error_of
from serving.api.predict import JSON, answered, read
from serving.api.speaking import Answer, speaking
from serving.domain import instances
from serving.replica.table import Answering, Live


def routes() -> list[RawRoute]:
    path = "/v1/models/{name}:predict"
    viewer, endpoint = Access(Role.VIEWER), speaking(_predict, error_of)
    post, shows = frozenset({"POST"}), hurry.shown(error_of)
    return [RawRoute(post, path, endpoint, viewer, documents.V1, is_prompt=True, refuses=hurry.refuses, shows=shows)]


async def _predict(scope: Scope, receive: Receive) -> Answer:
    body = await read(scope, receive)
    return 200, JSON, await answered(scope, receive, body, _arrays, written)


def _arrays(signature: AnySignature, content: bytes) -> Arrays:
    return instances.arrays_of_v1(signature, strict.loads(content))


def written(live: Live, one: Answering, prediction: Prediction) -> bytes:
    """`{"predictions": […]}`, and nothing beside it."""
    return orjson.dumps({"predictions": instances.plain(one.resident.signature.answers_of(prediction))})
