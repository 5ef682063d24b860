"""Statements about jobs and attempts, on the schema that the migrations make."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from makers import add_job, result_of
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import leases, migrations
from kit.db import NOW
from kit.ids import uuid7
from kit.testing import DatabaseUrl, EngineOf
from trainer.domain.jobs import NO_REASON, Job, JobFinished, JobNotFound, JobRunning, Phase, Reason
from trainer.domain.leased import Attempt, AttemptNotFound, AttemptOver, AttemptPhase, Ending, StaleFence
from trainer.domain.reports import FULL, JOB, RUNNER, Line, Point
from trainer.reconcile import show_queue
from trainer.store import tables
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.jobs import JobStore
from trainer.store.reports import ReportStore

TTL = timedelta(seconds=20)
ENDED_BADLY = {Phase.FAILED, Phase.CANCELLED}
AT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("trainer")


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with engine.begin() as connection:
        yield connection


async def queued(connection: AsyncConnection, job: Job, number: int = 1) -> Attempt:
    return await AttemptStore(connection).queue(job, number)


async def granted(connection: AsyncConnection, job: Job, number: int = 1, host: str = "h1") -> Granted:
    await queued(connection, job, number)
    [grant] = await AttemptStore(connection).lease(host, 1, ttl=TTL)
    return grant


async def pass_time(connection: AsyncConnection, by: timedelta) -> None:
    """Nobody can move the database's clock, so the rows are moved the other way."""
    for table in (tables.jobs, tables.attempts):
        moved = {
            column.name: column - by for column in table.c if isinstance(column.type, sa.DateTime) and column.nullable
        }
        await connection.execute(sa.update(table).values(moved))


def test_the_tables_are_what_the_migrations_make(database_url: DatabaseUrl) -> None:
    command.check(migrations.config("trainer", database_url("trainer")))


async def test_a_job_is_read_back_as_it_was_asked_for(engine: AsyncEngine) -> None:
    job = await add_job(engine, retries=1, deadline=timedelta(minutes=3), features=("hour",), seed=7)
    async with engine.begin() as connection:
        assert await JobStore(connection).get("blue", job.id) == job
    assert (job.phase, job.why.reason) == (Phase.PENDING, Reason.WAITING_FOR_DATASET)
    assert job.spec.deadline == timedelta(minutes=3)


async def test_another_project_s_job_is_not_there(connection: AsyncConnection, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    store = JobStore(connection)
    for verb in (store.get, store.request_cancel, store.request_delete):
        with pytest.raises(JobNotFound):
            await verb("red", job.id)
    assert await store.find("red", job.id) is None
    assert await store.page("red", before=None, limit=10) == []


async def test_pages_are_newest_first_and_join(connection: AsyncConnection, engine: AsyncEngine) -> None:
    jobs = [await add_job(engine) for _ in range(3)]
    store = JobStore(connection)
    first = await store.page("blue", before=None, limit=2)
    rest = await store.page("blue", before=first[-1].id, limit=2)
    assert [job.id for job in [*first, *rest]] == [job.id for job in reversed(jobs)]


async def test_a_finished_job_can_neither_be_cancelled_nor_finished_again(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    store = JobStore(connection)
    [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
    assert await store.settle(lease, job, phase=Phase.SUCCEEDED, why=NO_REASON, metrics={"accuracy": 1.0})
    assert not await store.settle(lease, job, phase=Phase.FAILED, why=NO_REASON)
    with pytest.raises(JobFinished, match="already succeeded"):
        await store.request_cancel("blue", job.id)
    assert (await store.get("blue", job.id)).metrics == {"accuracy": 1.0}


async def test_a_job_past_the_point_of_no_return_cannot_be_cancelled(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    store = JobStore(connection)
    [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
    assert await store.record(lease, job, due_in=timedelta(0), registering=True)
    with pytest.raises(JobFinished, match="being registered"):
        await store.request_cancel("blue", job.id)


async def test_a_cancel_makes_the_answer_to_an_older_question_void(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    store = JobStore(connection)
    [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
    cancelled = await store.request_cancel("blue", job.id)
    assert cancelled.cancel_requested
    assert await store.request_cancel("blue", job.id) == cancelled  # again is the same
    assert not await store.settle(lease, job, phase=Phase.FAILED, why=NO_REASON)
    assert (await store.get("blue", job.id)).phase is Phase.PENDING


async def test_only_a_job_that_has_ended_can_be_deleted_and_then_it_is_gone_for_callers(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    store = JobStore(connection)
    with pytest.raises(JobRunning, match="cancel it first"):
        await store.request_delete("blue", job.id)
    [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
    await store.settle(lease, job, phase=Phase.FAILED, why=NO_REASON)
    await store.request_delete("blue", job.id)
    with pytest.raises(JobNotFound):
        await store.get("blue", job.id)
    with pytest.raises(JobNotFound):
        await store.request_delete("blue", job.id)
    found = await store.find("blue", job.id)
    assert found is not None
    assert found.delete_requested


async def test_only_jobs_in_the_given_phases_are_retired_when_they_are_old(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    store, kept = JobStore(connection), []
    for phase in (Phase.FAILED, Phase.CANCELLED, Phase.SUCCEEDED):
        job = await add_job(engine)
        [lease] = await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
        await store.settle(lease, job, phase=phase, why=NO_REASON)
        kept.append(job)
    assert await store.retire(ENDED_BADLY, timedelta(hours=1), limit=10) == []
    await pass_time(connection, timedelta(hours=2))
    retired = await store.retire(ENDED_BADLY, timedelta(hours=1), limit=10)
    assert {job.id for job in retired} == {job.id for job in kept[:2]}


async def test_two_runners_that_ask_at_once_share_the_attempts(engine: AsyncEngine) -> None:
    for _ in range(4):
        job = await add_job(engine)
        async with engine.begin() as connection:
            await queued(connection, job)
    async with asyncio.timeout(5), engine.begin() as one, engine.begin() as other:
        first = await AttemptStore(one).lease("h1", 2, ttl=TTL)
        second = await AttemptStore(other).lease("h2", 9, ttl=TTL)
    assert [len(first), len(second)] == [2, 2]
    assert len({grant.attempt.id for grant in [*first, *second]}) == 4


async def test_an_attempt_of_a_cancelled_job_is_given_to_nobody(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    await queued(connection, job)
    await JobStore(connection).request_cancel("blue", job.id)
    assert await AttemptStore(connection).lease("h1", 9, ttl=TTL) == []


async def test_a_job_cannot_have_two_live_attempts(engine: AsyncEngine) -> None:
    job = await add_job(engine)
    async with engine.begin() as connection:
        await queued(connection, job, 1)
        with pytest.raises(sa.exc.IntegrityError, match="uq_attempts_live"):
            await queued(connection, job, 2)
        await connection.rollback()


async def test_a_token_is_known_while_its_attempt_runs_and_never_stored(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    grant = await granted(connection, await add_job(engine))
    store = AttemptStore(connection)
    assert grant.token.startswith("tya_")
    found = await store.by_token(grant.token)
    assert found == grant.attempt
    assert await store.by_token("tya_guess") is None
    rows = (await connection.execute(sa.select(tables.attempts))).all()
    assert grant.token not in str(rows)
    await store.finish(grant.attempt, Ending(AttemptPhase.STOPPED), exit_code=75, result=None)
    assert await store.by_token(grant.token) is None


async def test_a_runner_whose_lease_answer_was_lost_gets_its_attempt_again(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    lost = await granted(connection, await add_job(engine))
    store = AttemptStore(connection)
    assert await store.regrant("h2", [], ttl=TTL) == []
    assert await store.regrant("h1", [lost.attempt.id], ttl=TTL) == []
    [grant] = await store.regrant("h1", [], ttl=TTL)
    assert (grant.attempt.id, grant.attempt.fence) == (lost.attempt.id, lost.attempt.fence + 1)
    assert await store.by_token(lost.token) is None


async def test_what_is_to_stop_is_not_given_anew(connection: AsyncConnection, engine: AsyncEngine) -> None:
    lost = await granted(connection, await add_job(engine))
    await AttemptStore(connection).request_stop(lost.attempt)
    assert await AttemptStore(connection).regrant("h1", [], ttl=TTL) == []


async def test_an_attempt_is_not_given_anew_while_somebody_changes_its_job(engine: AsyncEngine) -> None:
    """Who changes both locks the job first: whoever waited for it with the attempt in hand would wait for ever."""
    job = await add_job(engine)
    async with engine.begin() as connection:
        await granted(connection, job)
    async with engine.begin() as other, engine.begin() as mine:
        await JobStore(other).find("blue", job.id, lock=True)
        assert await AttemptStore(mine).regrant("h1", [], ttl=TTL) == []
    async with engine.begin() as mine:
        assert len(await AttemptStore(mine).regrant("h1", [], ttl=TTL)) == 1


async def test_what_a_former_owner_writes_is_refused(connection: AsyncConnection, engine: AsyncEngine) -> None:
    lost = await granted(connection, await add_job(engine))
    store = AttemptStore(connection)
    [grant] = await store.regrant("h1", [], ttl=TTL)
    with pytest.raises(StaleFence):
        await store.beat("blue", lost.attempt.id, fence=lost.attempt.fence, ttl=TTL)
    assert not await store.finish(lost.attempt, Ending(AttemptPhase.SUCCEEDED), exit_code=0, result=None)
    assert not await store.beat("blue", grant.attempt.id, fence=grant.attempt.fence, ttl=TTL)


async def test_a_heartbeat_says_whether_to_stop_and_an_attempt_that_is_over_has_none(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    grant = await granted(connection, await add_job(engine))
    store, attempt = AttemptStore(connection), grant.attempt
    await store.request_stop(attempt)
    assert await store.beat("blue", attempt.id, fence=1, ttl=TTL)
    assert await store.finish(attempt, Ending(AttemptPhase.SUCCEEDED), exit_code=0, result=result_of())
    assert not await store.finish(attempt, Ending(AttemptPhase.FAILED), exit_code=1, result=None)
    with pytest.raises(AttemptOver, match="succeeded"):
        await store.beat("blue", attempt.id, fence=1, ttl=TTL)
    with pytest.raises(AttemptNotFound):
        await store.beat("blue", uuid7(), fence=1, ttl=TTL)
    ended = await store.get("blue", attempt.id)
    assert (ended.exit_code, ended.result) == (0, result_of())


async def test_an_attempt_is_lost_only_after_a_silence_that_was_noted(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    grant = await granted(connection, await add_job(engine))
    store, attempt = AttemptStore(connection), grant.attempt
    await store.suspect(attempt)
    assert not await store.lose(attempt)  # the lease has not run out
    await pass_time(connection, 2 * TTL)
    assert not await store.lose(attempt)  # nobody has noted the silence yet
    await store.suspect(attempt)
    await store.beat("blue", attempt.id, fence=1, ttl=TTL)
    assert not await store.lose(attempt)  # it has spoken since
    await pass_time(connection, 2 * TTL)
    await store.suspect(attempt)
    assert await store.lose(attempt)
    lost = await store.get("blue", attempt.id)
    assert (lost.phase, lost.why.reason) == (AttemptPhase.LOST, Reason.LOST)


async def test_only_failures_count_against_the_retries(connection: AsyncConnection, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    store = AttemptStore(connection)
    endings = [AttemptPhase.FAILED, AttemptPhase.STOPPED, AttemptPhase.FAILED]
    for number, phase in enumerate(endings, 1):
        grant = await granted(connection, job, number)
        await store.finish(grant.attempt, Ending(phase), exit_code=1, result=None)
    await queued(connection, job, 4)
    newest = await store.newest(job)
    assert newest is not None
    assert newest.number == 4
    assert await store.withdraw(newest)
    assert not await store.withdraw(newest)
    assert await store.failures(job) == 2


def line(number: int, message: str = "hello") -> Line:
    return Line(number=number, at=AT, level="info", message=message)


async def test_lines_that_are_sent_twice_are_kept_once_and_stay_in_order(
    connection: AsyncConnection, engine: AsyncEngine
) -> None:
    job = await add_job(engine)
    attempt = (await granted(connection, job)).attempt
    store = ReportStore(connection)
    await store.add_lines(attempt, JOB, [line(1), line(2)])
    await store.add_lines(attempt, JOB, [line(2), line(3)])
    await store.add_lines(attempt, RUNNER, [line(1, "ended by signal 9")])
    await store.add_lines(attempt, JOB, [])
    kept = await store.lines("blue", job.id, after=0, limit=10)
    assert [(each.source, each.report.number) for each in kept] == [("job", 1), ("job", 2), ("job", 3), ("runner", 1)]
    assert await store.lines("blue", job.id, after=kept[2].key, limit=10) == kept[3:]
    assert await store.lines("red", job.id, after=0, limit=10) == []


async def test_a_log_that_is_full_says_so_once(connection: AsyncConnection, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    attempt = (await granted(connection, job)).attempt
    store = ReportStore(connection)
    for number in range(1, 6):
        await store.add_lines(attempt, JOB, [line(number, "x" * 10)], limit=25)
    kept = await store.lines("blue", job.id, after=0, limit=10)
    assert [each.report.message for each in kept] == ["x" * 10, "x" * 10, FULL]


async def test_points_are_kept_and_go_with_their_job(connection: AsyncConnection, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    attempt = (await granted(connection, job)).attempt
    store = ReportStore(connection)
    point = Point(number=1, at=AT, name="loss", value=0.5, step=3)
    await store.add_points(attempt, JOB, [point])
    [kept] = await store.points("blue", job.id, after=0, limit=10)
    assert (kept.attempt, kept.report) == (1, point)
    await store.remove(job)
    assert await store.points("blue", job.id, after=0, limit=10) == []
    assert [gone.id for gone in await AttemptStore(connection).remove(job)] == [attempt.id]


async def test_the_queue_says_how_long_its_oldest_has_waited(engine: AsyncEngine) -> None:
    jobs = [await add_job(engine) for _ in range(3)]
    async with engine.begin() as connection:
        store = AttemptStore(connection)
        assert await store.oldest_queued() == 0
        for job, waited in zip(jobs, (10, 5, 1000), strict=True):
            attempt = await queued(connection, job)
            phase = AttemptPhase.QUEUED if waited < 1000 else AttemptPhase.FAILED
            row = sa.update(tables.attempts).where(tables.attempts.c.id == attempt.id)
            await connection.execute(row.values(created_at=NOW - timedelta(seconds=waited), phase=phase))
        assert 10 <= await store.oldest_queued() < 100
    await show_queue(engine)
    assert 10 <= (REGISTRY.get_sample_value("trainyard_trainer_queue_age_seconds") or 0) < 100
