"""`POST /v1/deployments/{name}/predictions`: what `predict` takes, answered later. What is acknowledged is answered."""

import hashlib
import uuid
from datetime import datetime
from typing import Any, Self

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from kit import bodies, errors, idempotency, leases
from kit.callers import CallerDep, Role, requires
from kit.db import Engine
from kit.failpoints import failpoint
from kit.waiting import Wait, until
from serving import actions
from serving.api import predict
from serving.api.state import PartsDep
from serving.domain.predictions import FINAL, Later, Phase
from serving.store.deployments import DeploymentStore
from serving.store.predictions import PredictionStore

router = APIRouter(prefix="/v1/deployments/{name}/predictions", tags=["predictions"], route_class=idempotency.Route)
BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
}


class BodyCutOff(errors.Malformed): ...


class LaterStatusOut(BaseModel):
    phase: Phase
    message: str
    """Why it still waits."""


class LaterOut(BaseModel):
    id: uuid.UUID
    deployment: str
    status: LaterStatusOut
    answer: dict[str, Any] | None
    """What `predict` answers, once it has succeeded."""
    problem: dict[str, Any] | None
    """The problem that `predict` would have answered, once it has failed."""
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, later: Later) -> Self:
        said = None if later.answer is None else orjson.loads(later.answer)
        return cls(
            id=later.id,
            deployment=later.deployment,
            status=LaterStatusOut(phase=later.phase, message=later.message),
            answer=said if later.phase is Phase.SUCCEEDED else None,
            problem=said if later.phase is Phase.FAILED else None,
            created_at=later.created_at,
            finished_at=later.finished_at,
        )


@router.post("", status_code=202, openapi_extra=BODY)
@requires(Role.VIEWER, streams=True)
async def take_prediction(
    name: str, request: Request, caller: CallerDep, engine: Engine, parts: PartsDep, response: Response
) -> LaterOut:
    """Take what `predict` takes, and answer it later: once this is answered, no kill and no restart loses it.

    With an `Idempotency-Key` a request that is sent again is the same one. Answers are kept for a day.
    """
    try:
        body = await predict.read(request.scope, request.receive)
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None
    # What is no request at all is said now; whether its rows fit the model, the model's own answer says.
    await predict.beside(len(body) > predict.LARGE, predict.document_of, body)
    fingerprint = f"{name} {hashlib.sha256(body).hexdigest()}"
    async with idempotency.effect(request, engine, caller, fingerprint) as connection:
        await DeploymentStore(connection).get(caller.project, name)
        store = PredictionStore(connection)
        await store.require_room(
            caller.project, len(body), requests=parts.predictions, size_limit=parts.prediction_bytes
        )
        later = await store.add(caller.project, name, request.state.request_id, body)
        await leases.hint(connection, actions.PREDICTIONS)
        failpoint("serving.prediction.before_commit")
    response.headers["Location"] = f"/v1/deployments/{name}/predictions/{later.id}"
    return LaterOut.of(later)


@router.get("/{prediction_id}")
@requires(Role.VIEWER)
async def get_prediction(
    name: str, prediction_id: uuid.UUID, caller: CallerDep, engine: Engine, wait: Wait
) -> LaterOut:
    """With `?wait=30s`, once it is answered."""

    async def read() -> Later:
        async with engine.begin() as connection:
            return await PredictionStore(connection).get(caller.project, name, prediction_id)

    return LaterOut.of(await until(read, lambda later: later.phase in FINAL, wait))
