"""The protocol's repository extension: which models there are here."""

from collections.abc import Iterator
from typing import Any

import orjson
from starlette.types import Receive, Scope

from kit import bodies, errors
from serving.api import strict
from serving.api.predict import JSON
from serving.api.speaking import Answer
from serving.domain import tensors
from serving.domain.desired import Desired
from serving.replica.table import Live

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"
ASLEEP = "It is not in memory; the next request brings it back."


async def index(scope: Scope, receive: Receive) -> Answer:
    """Every version of the project's deployments: those that answer, and those that are to and do not yet."""
    only_ready = await _only_ready(scope, receive)
    listed = scope["state"]["parts"].replica.listed(scope["state"]["caller"].project)
    models = [model for desired, live, why in listed for model in _models(desired, live, why)]
    return 200, JSON, orjson.dumps([it for it in models if it["state"] == READY or not only_ready])


async def load(scope: Scope, receive: Receive) -> Answer:
    """Bring a deployment's models back into the memory of this process, if they were given up."""
    await bodies.read(scope, receive, limit=bodies.JSON_LIMIT)  # parameters of other servers mean nothing here
    await scope["state"]["parts"].replica.load(scope["state"]["caller"].project, scope["path_params"]["name"])
    return 200, JSON, b"{}"


async def unload(scope: Scope, receive: Receive) -> Answer:
    """Give them up. The next request brings them back: what is served is the deployment's to say, not a process's."""
    await bodies.read(scope, receive, limit=bodies.JSON_LIMIT)
    await scope["state"]["parts"].replica.unload(scope["state"]["caller"].project, scope["path_params"]["name"])
    return 200, JSON, b"{}"


def _models(desired: Desired, live: Live | None, why: str) -> Iterator[dict[str, Any]]:
    answering = () if live is None else live.answering
    known = {str(one.target.version) for one in answering}
    if live is not None and live.is_asleep:
        why = why or ASLEEP
    for one in answering:
        lost = one.resident.is_lost or (live is not None and live.is_asleep)
        yield _model(desired, str(one.target.version), UNAVAILABLE if lost else READY, why if lost else "")
    for target in desired.targets:
        if str(target.version) not in known:
            yield _model(desired, str(target.version), UNAVAILABLE if why else LOADING, why)


def _model(desired: Desired, version: str, state: str, why: str) -> dict[str, Any]:
    return {"name": desired.name, "version": version, "state": state, "reason": why}


async def _only_ready(scope: Scope, receive: Receive) -> bool:
    """What the body says, which may be none at all."""
    body = await bodies.read(scope, receive, limit=bodies.JSON_LIMIT)
    document = strict.loads(body) if body else {}
    if not isinstance(document, dict) or type(document.get("ready", False)) is not bool:
        places: list[errors.Place] = [{"pointer": "#/ready", "detail": "must be true or false"}]
        raise tensors.TensorInvalid("The request cannot be read.", errors=places)
    return bool(document.get("ready", False))
