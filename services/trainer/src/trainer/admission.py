"""Who is let in, who waits, and who makes way: what a reconciler does about a job's share of what there is."""

import enum
import logging
from datetime import timedelta

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import leases
from trainer.actions import RUNNERS, SERVICE
from trainer.domain import sharing, steps
from trainer.domain.jobs import Job, Reason, Why
from trainer.domain.leased import Attempt
from trainer.domain.sharing import Standing
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.preemption import PreemptionStore
from trainer.store.shares import ShareStore

log = logging.getLogger(__name__)
LOOK_AGAIN = timedelta(minutes=1)
"""Between two looks at a job that waits for its project's quota; what ends wakes the first one before that."""
PREEMPT_AGAIN = timedelta(minutes=5)
QUEUED = Why(Reason.WAITING_FOR_RUNNER, "The job waits for a runner.", "Runners: python -m trainer runner")
MADE_WAY = Why(
    Reason.PREEMPTED, "It made way for a job of higher priority, and waits for a runner.", "This costs no retry."
)
PREEMPTED = Counter(
    "trainyard_trainer_preempted_total", "Attempts that made way for a job of higher priority.", ["cause"]
)


class Turn(enum.Enum):
    """Where a job stands at the door."""

    IN = "its attempt is queued"
    NEXT = "it waits for room, or for nothing that comes by itself"
    BEHIND = "it waits behind others"


async def admit(connection: AsyncConnection, lease: leases.Lease, job: Job, attempt: Attempt | None) -> Turn:
    """Queue the job's next attempt, or have it wait for its project's quota."""
    store, shares = JobStore(connection), ShareStore(connection)
    number = 1 if attempt is None else attempt.number + 1
    made_way = attempt is not None and attempt.why.reason is Reason.PREEMPTED
    why = MADE_WAY if made_way else QUEUED
    if not await store.record(lease, job, due_in=steps.PATIENCE, why=why, waits=True, attempt=number):
        return Turn.NEXT  # somebody else looks at it by now
    # Who comes after others waits behind them, and takes no turn at the project's row: a crowd would stand there.
    ahead = await shares.ahead(job)
    if not ahead and await AttemptStore(connection).queue(job, number) is not None:
        if await shares.leave(job):
            await let_next_in(connection, job.project)
        await leases.hint(connection, RUNNERS)
        return Turn.IN
    why, has_room = await _wait(connection, job, ahead)
    due_in = timedelta(0) if has_room else LOOK_AGAIN
    await store.record(lease, job, due_in=due_in, why=why, attempt=job.attempt)
    return Turn.BEHIND if ahead else Turn.NEXT


async def look_again(engine: AsyncEngine, job: Job) -> None:
    """Of a job that waits behind others: these may have been let in before they could see it, and wake it."""
    async with engine.begin() as connection:
        if not await ShareStore(connection).ahead(job):
            await let_next_in(connection, job.project)


async def _wait(connection: AsyncConnection, job: Job, ahead: int) -> tuple[Why, bool]:
    """Why it waits, from now on or still; and whether others have made room for it already."""
    shares = ShareStore(connection)
    standing = await shares.standing(job.project, if_needed=True)
    ahead = ahead or await shares.ahead(job)
    why = sharing.why_waiting(standing, job.spec.asks, ahead)
    if why.reason is Reason.QUOTA_EXCEEDED:  # nobody waits for it
        await shares.leave(job)
        return why, False
    await shares.wait(job)
    is_next = why.reason is Reason.WAITING_FOR_QUOTA and not ahead
    return why, is_next and await _make_room(connection, job, standing)


async def _make_room(connection: AsyncConnection, job: Job, standing: Standing) -> bool:
    """Have less important attempts of its own project make way, if that is enough. The project's row is locked.

    Says whether there is room already: that was of attempts which nobody had begun.
    """
    store = PreemptionStore(connection)
    lower, stopping = await store.of_project(job), await store.stopping(job)
    victims = sharing.victims_for_quota(sharing.left_of(standing.lacks(job.spec.asks), stopping), lower)
    for each in victims:
        await store.preempt(each, job)
        PREEMPTED.labels("quota").inc()
    return bool(victims) and not any(each.begun for each in (*victims, *stopping))


async def make_way(connection: AsyncConnection, job: Job) -> None:
    """Have less important attempts of one host make way for an attempt that no runner has taken in time."""
    store = PreemptionStore(connection)
    # Once, and then not soon again: if it is still not taken, it waits for something else than room.
    if _needs_hosts(job) or await store.has_made_way(job, PREEMPT_AGAIN):
        return
    for each in sharing.victims_on_a_host(job.spec.asks, await store.running(job)):
        await store.preempt(each, job)
        PREEMPTED.labels("runner").inc()
        log.info("preempted", extra={"attempt": str(each.id), "job": str(job.id)})


def _needs_hosts(job: Job) -> bool:
    """Whether no single host is enough for it: a cluster's own scheduler sees to such jobs."""
    return job.spec.bundle is not None and job.spec.bundle.least > 1


async def leave(connection: AsyncConnection, job: Job) -> None:
    """The job waits no more: it has ended."""
    if await ShareStore(connection).leave(job):
        await let_next_in(connection, job.project)


async def let_next_in(connection: AsyncConnection, project: str) -> None:
    """Look at the job that comes first in its project's queue."""
    await JobStore(connection).wake_next(project)
    await leases.hint(connection, SERVICE)


async def look_after(engine: AsyncEngine) -> None:
    """What nobody else sees in time: a budget that is renewed, and what a release did that knows no quotas."""
    async with engine.begin() as connection:
        projects = await ShareStore(connection).projects()
    for project in projects:
        async with engine.begin() as connection:
            if await ShareStore(connection).recount(project):
                log.warning("recounted", extra={"project": project})
            await JobStore(connection).wake_next(project)
