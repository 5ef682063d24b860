"""Attempts in the database. Every statement about the attempts table is in this file.

Whoever needs the rows of a job and of its attempt locks the job's first.
"""

import hashlib
import secrets
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import NOW
from kit.ids import uuid7
from kit.tables import blob_links
from trainer.domain.attempts import AttemptResult
from trainer.domain.jobs import FINAL, Job, Reason, Why
from trainer.domain.leased import (
    COUNTED,
    LIVE,
    TOKEN_PREFIX,
    Attempt,
    AttemptNotFound,
    AttemptOver,
    AttemptPhase,
    Ending,
    StaleFence,
)
from trainer.store.tables import attempts, jobs

ENDED = Counter("trainyard_trainer_attempts_total", "Attempts that ended.", ["phase", "reason"])
_NOT_READ = {"token_digest", "progress", "log_bytes", "created_at"}
COLUMNS = [column for column in attempts.c if column.name not in _NOT_READ]


@dataclass(frozen=True)
class Granted:
    """An attempt that a runner has from now on, and the token for the program in it: said once, stored hashed."""

    attempt: Attempt
    token: str
    waited: float | None = None
    """Seconds from its making to its first runner; None: it had one before."""


class AttemptStore:
    """Reads and writes attempts in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def newest(self, job: Job) -> Attempt | None:
        """The attempt that the job is at."""
        of = sa.and_(attempts.c.project == job.project, attempts.c.job_id == job.id)
        query = sa.select(*COLUMNS).where(of).order_by(attempts.c.number.desc()).limit(1)
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else _attempt(row)

    async def of(self, job: Job) -> Sequence[Attempt]:
        """All attempts of a job."""
        query = sa.select(*COLUMNS).where(attempts.c.project == job.project, attempts.c.job_id == job.id)
        return [_attempt(row) for row in await self._connection.execute(query.order_by(attempts.c.number))]

    async def failures(self, job: Job) -> int:
        """How many attempts count against the job's retries."""
        query = sa.select(sa.func.count()).where(
            attempts.c.project == job.project, attempts.c.job_id == job.id, attempts.c.phase.in_(COUNTED)
        )
        return int((await self._connection.execute(query)).scalar_one())

    async def oldest_queued(self) -> float:
        """For how many seconds the attempt that waits longest has been waiting, of all projects; 0 when none does."""
        age = sa.func.extract("epoch", NOW - sa.func.min(attempts.c.created_at))
        query = sa.select(sa.func.coalesce(age, 0)).where(attempts.c.phase == AttemptPhase.QUEUED)
        return float((await self._connection.execute(query)).scalar_one())

    async def get(self, project: str, attempt_id: uuid.UUID, *, lock: bool = False) -> Attempt:
        """
        Raises:
            AttemptNotFound: there is none.
        """
        query = sa.select(*COLUMNS).where(attempts.c.project == project, attempts.c.id == attempt_id)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise AttemptNotFound(f"There is no attempt {attempt_id}.")
        return _attempt(row)

    async def live(self, project: str, attempt_id: uuid.UUID, *, fence: int, lock: bool = False) -> Attempt:
        """The attempt, while it is the caller's.

        Raises:
            StaleFence: somebody else has it by now.
            AttemptOver: it has ended.
        """
        attempt = await self.get(project, attempt_id, lock=lock)
        if attempt.fence != fence:
            raise StaleFence(f"Attempt {attempt_id} has been given to another runner.")
        if attempt.phase is not AttemptPhase.RUNNING:
            raise AttemptOver(f"Attempt {attempt_id} is over: {attempt.phase}.")
        return attempt

    async def by_token(self, token: str) -> Attempt | None:
        """The running attempt whose token this is. With its attempt, a token dies."""
        query = sa.select(*COLUMNS).where(
            attempts.c.token_digest == digest_of(token), attempts.c.phase == AttemptPhase.RUNNING
        )
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else _attempt(row)

    async def queue(self, job: Job, number: int) -> Attempt:
        """A new attempt that any runner may lease."""
        values = {"project": job.project, "id": uuid7(), "job_id": job.id, "number": number}
        row = (await self._connection.execute(sa.insert(attempts).values(values).returning(*COLUMNS))).one()
        return _attempt(row)

    async def lease(self, host: str, limit: int, *, ttl: timedelta) -> Sequence[Granted]:
        """Give queued attempts to a runner, the oldest first."""
        queued = (
            sa.select(attempts.c.project, attempts.c.id)
            .join(jobs, sa.and_(jobs.c.project == attempts.c.project, jobs.c.id == attempts.c.job_id))
            .where(attempts.c.phase == AttemptPhase.QUEUED, ~jobs.c.cancel_requested, jobs.c.phase.not_in(FINAL))
            .order_by(attempts.c.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=[jobs, attempts])
        )
        return [await self._grant(*row, host, ttl) for row in (await self._connection.execute(queued)).all()]

    async def regrant(self, host: str, holding: Collection[uuid.UUID], *, ttl: timedelta) -> Sequence[Granted]:
        """Give a runner anew what it was given and does not know of: the answer to its lease was lost.

        Not what is to stop: nobody works on it, and without a lease it is given up.
        """
        forgotten = (
            sa.select(attempts.c.project, attempts.c.id)
            .join(jobs, sa.and_(jobs.c.project == attempts.c.project, jobs.c.id == attempts.c.job_id))
            .where(
                attempts.c.phase == AttemptPhase.RUNNING,
                attempts.c.host == host,
                attempts.c.id.not_in(list(holding)),
                ~attempts.c.stop_requested,
            )
            .with_for_update(skip_locked=True, of=[jobs, attempts])
        )
        return [await self._grant(*row, host, ttl) for row in (await self._connection.execute(forgotten)).all()]

    async def beat(self, project: str, attempt_id: uuid.UUID, *, fence: int, ttl: timedelta) -> bool:
        """Believe for longer that the runner works on the attempt. True: it is to stop.

        Raises:
            AttemptNotFound, StaleFence, AttemptOver: it has nothing to work on any more.
        """
        statement = (
            sa.update(attempts)
            .where(_is(project, attempt_id), attempts.c.fence == fence, attempts.c.phase == AttemptPhase.RUNNING)
            .values(lease_until=NOW + ttl, suspected_at=None)
            .returning(attempts.c.stop_requested)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return (await self.live(project, attempt_id, fence=fence)).stop_requested
        return bool(row.stop_requested)

    async def note_progress(self, attempt: Attempt, progress: dict[str, Any]) -> None:
        """What the program in the job says it does."""
        await self._connection.execute(
            sa.update(attempts)
            .where(_is(attempt.project, attempt.id), attempts.c.phase == AttemptPhase.RUNNING)
            .values(progress=progress)
        )

    async def request_stop(self, attempt: Attempt) -> None:
        """The runner hears of it with its next heartbeat, the program with its own."""
        await self._change(attempt, AttemptPhase.RUNNING, stop_requested=True)

    async def suspect(self, attempt: Attempt) -> None:
        """Note a silence, unless the runner has spoken since."""
        await self._change(attempt, AttemptPhase.RUNNING, attempts.c.lease_until <= NOW, suspected_at=NOW)

    async def lose(self, attempt: Attempt) -> bool:
        """Give up an attempt whose runner has been silent ever since it was suspected."""
        why = Why(Reason.LOST, f"The runner of attempt {attempt.number} stopped answering.", LOST_HINT)
        return await self._end(
            attempt,
            Ending(AttemptPhase.LOST, why),
            attempts.c.phase == AttemptPhase.RUNNING,
            attempts.c.lease_until <= NOW,
            attempts.c.suspected_at.is_not(None),
        )

    async def withdraw(self, attempt: Attempt) -> bool:
        """Take back what nobody has begun."""
        return await self._end(attempt, Ending(AttemptPhase.WITHDRAWN), attempts.c.phase == AttemptPhase.QUEUED)

    async def finish(
        self, attempt: Attempt, ending: Ending, *, exit_code: int | None, result: AttemptResult | None
    ) -> bool:
        """Record how the attempt ended, for good. False: it has ended already."""
        return await self._end(
            attempt,
            ending,
            attempts.c.phase == AttemptPhase.RUNNING,
            attempts.c.fence == attempt.fence,
            exit_code=exit_code,
            result=None if result is None else result.to_json(),
        )

    async def progress(self, job: Job) -> dict[str, Any] | None:
        """What the program of the newest attempt said last."""
        of = sa.and_(attempts.c.project == job.project, attempts.c.job_id == job.id)
        query = sa.select(attempts.c.progress).where(of).order_by(attempts.c.number.desc()).limit(1)
        found: dict[str, Any] | None = (await self._connection.execute(query)).scalar_one_or_none()
        return found

    async def has_output(self, attempt: Attempt, digest: str) -> bool:
        """Whether the attempt handed over bytes of that digest."""
        linked = sa.exists().where(
            blob_links.c.project == attempt.project, blob_links.c.owner == attempt.owner, blob_links.c.digest == digest
        )
        return bool((await self._connection.execute(sa.select(linked))).scalar_one())

    async def remove(self, job: Job) -> Sequence[Attempt]:
        """Forget the attempts of a job. What they reported is gone already."""
        of = sa.and_(attempts.c.project == job.project, attempts.c.job_id == job.id)
        gone = await self._connection.execute(sa.delete(attempts).where(of).returning(*COLUMNS))
        return [_attempt(row) for row in gone]

    async def _grant(self, project: str, attempt_id: uuid.UUID, host: str, ttl: timedelta) -> Granted:
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        statement = (
            sa.update(attempts)
            .where(_is(project, attempt_id), attempts.c.phase.in_(LIVE))
            .values(
                phase=AttemptPhase.RUNNING,
                host=host,
                fence=attempts.c.fence + 1,
                token_digest=digest_of(token),
                lease_until=NOW + ttl,
                suspected_at=None,
                started_at=sa.func.coalesce(attempts.c.started_at, NOW),
            )
            .returning(
                *COLUMNS, sa.func.extract("epoch", attempts.c.started_at - attempts.c.created_at).label("waited")
            )
        )
        row = (await self._connection.execute(statement)).one()
        is_first = row.fence == 1
        return Granted(_attempt(row), token, float(row.waited) if is_first else None)

    async def _change(
        self, attempt: Attempt, phase: AttemptPhase, *where: sa.ColumnElement[bool], **values: object
    ) -> None:
        of = sa.and_(_is(attempt.project, attempt.id), attempts.c.phase == phase, *where)
        await self._connection.execute(sa.update(attempts).where(of).values(**values))

    async def _end(self, attempt: Attempt, ending: Ending, *where: sa.ColumnElement[bool], **values: object) -> bool:
        statement = (
            sa.update(attempts)
            .where(_is(attempt.project, attempt.id), attempts.c.phase.in_(LIVE), *where)
            .values(
                phase=ending.phase,
                reason=ending.why.reason,
                message=ending.why.message[:2000],
                hint=ending.why.hint[:2000],
                token_digest=None,
                lease_until=None,
                finished_at=NOW,
                **values,
            )
        )
        has_ended = (await self._connection.execute(statement)).rowcount == 1
        if has_ended:
            ENDED.labels(ending.phase, ending.why.reason).inc()
        return has_ended


LOST_HINT = "Its host may be gone or overloaded."


def digest_of(token: str) -> str:
    """What is kept of a token. It is random and long, so that one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def _is(project: str, attempt_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(attempts.c.project == project, attempts.c.id == attempt_id)


def _attempt(row: sa.Row[Any]) -> Attempt:
    values = {name: value for name, value in row._mapping.items() if name != "waited"}
    why = Why(Reason(values.pop("reason")), values.pop("message"), values.pop("hint"))
    result = values.pop("result")
    return Attempt(
        **values
        | {
            "phase": AttemptPhase(values["phase"]),
            "why": why,
            "result": None if result is None else AttemptResult.from_json(result),
        }
    )
