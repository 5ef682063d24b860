"""Every job is brought from its request to a runner, and from what the runner said to its end."""

from datetime import timedelta
from typing import Any

import pytest
from jobs_at_work import MODEL, begin, fail, look, newest, pass_time, told, trained, turn
from makers import add_job
from neighbours import Neighbours, digest_of
from requests_made import TTL
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blobs, events, leases
from kit.blobs import BlobStore
from trainer import actions
from trainer.domain.jobs import Phase, Pinned, Reason, Why
from trainer.domain.leased import AttemptPhase, Ending
from trainer.domain.reports import JOB, Line
from trainer.domain.steps import GRACE, SWEEP
from trainer.reconcile import Reconciler, wake_waiting
from trainer.store.attempts import AttemptStore
from trainer.store.jobs import JobStore
from trainer.store.reports import ReportStore


async def test_a_job_is_pinned_held_and_queued(engine: AsyncEngine, worker: Reconciler, world: Neighbours) -> None:
    job = await add_job(engine, dataset="flights", features=("hour",))
    await turn(engine, worker)
    found = await look(engine, job)
    assert found.pinned == Pinned("flights@3", world.versions["flights@3"]["digest"])
    assert (found.attempt, found.why.reason) == (1, Reason.WAITING_FOR_RUNNER)
    assert world.holds == {("flights@3", job.holder)}
    assert (await newest(engine, job)).phase is AttemptPhase.QUEUED


async def test_a_dataset_that_is_not_ready_is_waited_for_and_its_end_wakes_the_job(
    engine: AsyncEngine, worker: Reconciler, neighbours: Neighbours
) -> None:
    neighbours.add_version(phase="parsing")
    job, other = await add_job(engine), await add_job(engine, dataset="others@1")
    neighbours.add_version("others@1", phase="parsing")
    await turn(engine, worker)
    assert (await look(engine, job)).why.reason is Reason.WAITING_FOR_DATASET
    neighbours.add_version(phase="failed")
    data = {"dataset": "flights", "version": 3}
    happened = [
        events.Event(id="1:1", project="blue", kind=kind, subject="flights@3", data=data, at=job.created_at)
        for kind in ("dataset.version.deleted", "dataset.version.failed")
    ]
    async with engine.begin() as connection:
        await wake_waiting(connection, happened)
    await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.why.reason) == (Phase.FAILED, Reason.DATASET_FAILED)
    assert "no rows" in found.why.message
    assert (await look(engine, other)).phase is Phase.PENDING


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"dataset": "nothing"}, Reason.DATASET_NOT_FOUND),
        ({"target": "lateness"}, Reason.COLUMN_NOT_FOUND),
        ({"baseline": ("airline",)}, Reason.COLUMN_NOT_FOUND),
    ],
)
async def test_a_job_about_what_is_not_there_fails_with_the_reason(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours, given: dict[str, Any], reason: Reason
) -> None:
    job = await add_job(engine, **given)
    await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.why.reason) == (Phase.FAILED, reason)
    [event] = await told(engine)
    assert (event.kind, event.subject, event.data["reason"]) == ("job.failed", str(job.id), reason)


async def test_a_version_that_is_deleted_before_it_is_held_fails_the_job(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine)
    with world.answering("PUT", "/holds", 404, {"detail": "It is deleted."}):
        await turn(engine, worker)
    assert (await look(engine, job)).why.reason is Reason.DATASET_NOT_FOUND


async def test_a_neighbour_that_is_away_costs_time_and_nothing_else(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine)
    with world.answering("GET", "/v1/datasets", 503, {"detail": "The database is not answering."}):
        await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.why.message) == (Phase.PENDING, "The database is not answering.")
    await pass_time(engine, timedelta(seconds=5))
    await turn(engine, worker)
    assert (await newest(engine, job)).phase is AttemptPhase.QUEUED


# --- while somebody works on it


async def test_what_nobody_expected_of_a_neighbour_is_shown_and_asked_again(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine)
    with world.answering("PUT", "/holds", 403, {"detail": "This needs another role."}):
        await turn(engine, worker)
    assert (await look(engine, job)).why.message == "This needs another role."
    await pass_time(engine, timedelta(seconds=11))
    await turn(engine, worker)
    assert (await newest(engine, job)).phase is AttemptPhase.QUEUED


async def test_a_cancelled_attempt_is_withdrawn_or_stopped(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    running = await add_job(engine)
    await turn(engine, worker)  # before there is another: the attempt that was queued first is given first
    queued = await add_job(engine)
    await turn(engine, worker)
    begun = await begin(engine, running)
    async with engine.begin() as connection:
        for job in (queued, running):
            await JobStore(connection).request_cancel("blue", job.id)
    await turn(engine, worker)
    assert (await look(engine, queued)).phase is Phase.CANCELLED
    assert (await newest(engine, queued)).phase is AttemptPhase.WITHDRAWN
    assert (await newest(engine, running)).stop_requested
    async with engine.begin() as connection:
        assert await AttemptStore(connection).beat("blue", begun.id, fence=begun.fence, ttl=TTL)
        await AttemptStore(connection).finish(begun, Ending(AttemptPhase.STOPPED), exit_code=75, result=None)
        await JobStore(connection).wake("blue", running.id)
    await turn(engine, worker)
    assert (await look(engine, running)).phase is Phase.CANCELLED


async def test_a_silent_runner_is_suspected_then_given_up_and_the_job_tried_again(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine)
    await turn(engine, worker)
    attempt = await begin(engine, job)
    await pass_time(engine, TTL + timedelta(seconds=1))
    await turn(engine, worker)
    assert (await newest(engine, job)).suspected_at is not None
    await pass_time(engine, GRACE + timedelta(seconds=1))
    await turn(engine, worker)
    assert (await newest(engine, job)).phase is AttemptPhase.LOST
    assert (await look(engine, job)).why.reason is Reason.RETRYING
    await pass_time(engine, timedelta(seconds=3))
    await turn(engine, worker)
    again = await newest(engine, job)
    assert (again.number, again.phase) == (2, AttemptPhase.QUEUED)
    assert again.id != attempt.id


async def test_an_attempt_that_failed_is_tried_again_after_a_while_as_often_as_was_asked(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine, retries=1)
    await turn(engine, worker)
    await fail(engine, await begin(engine, job), Why(Reason.CRASHED, "It broke."))
    await turn(engine, worker)
    assert (await newest(engine, job)).number == 1  # not at once
    await pass_time(engine, timedelta(seconds=2))
    await turn(engine, worker)
    assert (await newest(engine, job)).number == 2
    await fail(engine, await begin(engine, job), Why(Reason.CRASHED, "It broke."))
    await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.why) == (Phase.FAILED, Why(Reason.CRASHED, "It broke (tried 2 times)."))


async def test_a_job_past_its_deadline_is_stopped_and_fails(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    job = await add_job(engine, deadline=timedelta(seconds=10))
    await turn(engine, worker)
    attempt = await begin(engine, job)
    await pass_time(engine, timedelta(seconds=11))
    await turn(engine, worker)
    assert (await newest(engine, job)).stop_requested
    async with engine.begin() as connection:
        await AttemptStore(connection).finish(attempt, Ending(AttemptPhase.STOPPED), exit_code=75, result=None)
        await JobStore(connection).wake("blue", job.id)
    await turn(engine, worker)
    assert (await look(engine, job)).why.reason is Reason.DEADLINE_EXCEEDED


async def test_a_deleted_job_lets_go_of_everything(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours
) -> None:
    job, attempt = await trained(engine, worker, store, model=None)
    await turn(engine, worker)
    async with engine.begin() as connection:
        line = Line(number=1, at=job.created_at, level="info", message="fitting")
        await ReportStore(connection).add_lines(attempt, JOB, [line])
        await JobStore(connection).request_delete("blue", job.id)
    with world.answering("DELETE", "/holds", 503, {"detail": "Not now."}):
        await turn(engine, worker)
    assert world.holds
    await pass_time(engine, timedelta(seconds=5))
    await turn(engine, worker)
    assert world.holds == set()
    async with engine.begin() as connection:
        assert await ReportStore(connection).lines("blue", job.id, after=0, limit=9) == []
        assert not await AttemptStore(connection).has_output(attempt, digest_of(MODEL))
        assert await AttemptStore(connection).newest(job) is None
        assert await JobStore(connection).find("blue", job.id) is not None
    none = timedelta(0)
    await blobs.collect(engine, store, grace=none, settle=none)
    await blobs.collect(engine, store, grace=none, settle=none)
    async with engine.begin() as connection:
        assert await blobs.find(connection, "blue", digest_of(MODEL)) is None
    await pass_time(engine, SWEEP + timedelta(seconds=1))
    await turn(engine, worker)
    async with engine.begin() as connection:
        assert await JobStore(connection).find("blue", job.id) is None


async def test_a_job_that_never_had_a_dataset_is_deleted_too(
    engine: AsyncEngine, worker: Reconciler, neighbours: Neighbours
) -> None:
    job = await add_job(engine)
    await turn(engine, worker)  # there is no such dataset
    async with engine.begin() as connection:
        await JobStore(connection).request_delete("blue", job.id)
    stale = leases.Lease("blue", job.id, 99)
    await turn(engine, worker)
    await pass_time(engine, SWEEP + timedelta(seconds=1))
    await turn(engine, worker)
    async with engine.begin() as connection:
        assert await JobStore(connection).find("blue", job.id) is None
    await worker.reconcile(stale)  # of a job that is forgotten: nothing


async def test_failed_jobs_are_retired_when_they_are_old(
    engine: AsyncEngine, worker: Reconciler, world: Neighbours
) -> None:
    jobs = [await add_job(engine, target="nothing") for _ in range(3)]
    await turn(engine, worker)
    month = timedelta(days=30)
    assert await actions.retire_jobs(engine, {Phase.FAILED}, month) == 0
    await pass_time(engine, timedelta(days=31))
    assert await actions.retire_jobs(engine, {Phase.SUCCEEDED}, month) == 0
    assert await actions.retire_jobs(engine, {Phase.FAILED}, month, limit=1) == 3  # however many there are
    assert all([(await look(engine, job)).delete_requested for job in jobs])
