"""For the program in a job: it brings its attempt's own token, and may speak of that attempt alone."""

import uuid
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from starlette.types import Scope

from kit import errors
from kit.callers import Caller, CallerDep, Role, requires
from kit.db import Transaction
from trainer.api.reporting import BeatIn, BeatOut, LinesIn, PointsIn
from trainer.api.state import PartsDep
from trainer.domain.leased import Attempt, AttemptNotFound
from trainer.domain.reports import JOB
from trainer.store.attempts import AttemptStore
from trainer.store.reports import ReportStore

PREFIX = "/internal/v1/attempts/"
ISSUER = "attempt"
"""Who vouches for the program in a job: its attempt, and no service."""

router = APIRouter(prefix="/internal/v1/attempts/{attempt_id}", include_in_schema=False)


class AttemptTokenRefused(errors.Unauthenticated): ...


async def authenticate(scope: Scope, token: str) -> Caller:
    """Whose token this is. It opens the routes here, and it is dead as soon as its attempt is.

    Raises:
        AttemptTokenRefused: nobody's, any more.
    """
    match = scope["state"]["match"]
    if match is None or not match.path.startswith(PREFIX):
        raise AttemptTokenRefused("This token is for the program in a job.")
    async with scope["state"]["engine"].begin() as connection:
        attempt = await AttemptStore(connection).by_token(token)
    if attempt is None:
        raise AttemptTokenRefused("The attempt of this token is over.")
    scope["state"]["attempt"] = attempt
    return Caller(attempt.project, Role.VIEWER, str(attempt.id), ISSUER)


async def _own(attempt_id: uuid.UUID, request: Request, transaction: Transaction) -> Attempt:
    attempt: Attempt = request.state.attempt
    if attempt.id != attempt_id:
        raise AttemptNotFound(f"There is no attempt {attempt_id}.")
    # Asked again with the row locked: what is written below is written before the attempt ends, or not at all.
    return await AttemptStore(transaction).live(attempt.project, attempt.id, fence=attempt.fence, lock=True)


OwnAttempt = Annotated[Attempt, Depends(_own)]


@router.post("/heartbeat")
@requires(Role.VIEWER, issuers={ISSUER})
async def beat(body: BeatIn, caller: CallerDep, attempt: OwnAttempt, transaction: Transaction) -> BeatOut:
    await AttemptStore(transaction).note_progress(attempt, body.progress.model_dump())
    return BeatOut(stop=attempt.stop_requested)


@router.post("/logs", status_code=204)
@requires(Role.VIEWER, issuers={ISSUER})
async def add_lines(
    body: LinesIn,
    caller: CallerDep,
    attempt: OwnAttempt,
    transaction: Transaction,
    parts: PartsDep,
    afterwards: BackgroundTasks,
) -> None:
    await ReportStore(transaction).add_lines(attempt, JOB, [entry.line() for entry in body.entries])
    afterwards.add_task(parts.live.tell, str(attempt.job_id))


@router.post("/metrics", status_code=204)
@requires(Role.VIEWER, issuers={ISSUER})
async def add_points(
    body: PointsIn,
    caller: CallerDep,
    attempt: OwnAttempt,
    transaction: Transaction,
    parts: PartsDep,
    afterwards: BackgroundTasks,
) -> None:
    await ReportStore(transaction).add_points(attempt, JOB, [entry.point() for entry in body.points])
    afterwards.add_task(parts.live.tell, str(attempt.job_id))
