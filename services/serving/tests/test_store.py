"""Deployments, revisions, holds and replicas in the database."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.ext.asyncio import AsyncEngine
from targets import target

from kit import leases, migrations
from serving.domain.deployments import BEGUN, Deployment, DeploymentNotFound, Part, Phase, Reason, Status
from serving.domain.limits import Limits
from serving.domain.observations import NOTHING, Observation
from serving.store.deployments import DeploymentStore
from serving.store.held import HeldStore
from serving.store.replicas import ReplicaStore
from serving.store.tables import deployments, metadata, replicas, revisions

TTL = timedelta(seconds=30)
LATER = timedelta(minutes=1)
READY = Status(Phase.READY)
CHAMPION = (Part("late@champion", 100),)


async def made(
    engine: AsyncEngine, name: str = "late", project: str = "blue", model: str = "late@champion"
) -> Deployment:
    async with engine.begin() as connection:
        found = await DeploymentStore(connection).add(project, name, [Part(model, 100)])
    assert found is not None
    return found


async def read(engine: AsyncEngine, deployment: Deployment) -> Deployment:
    async with engine.begin() as connection:
        found = await DeploymentStore(connection).find_by_id(deployment.project, deployment.id)
    assert found is not None
    return found


async def leased(engine: AsyncEngine) -> list[leases.Lease]:
    async with engine.begin() as connection:
        return list(await leases.lease_due(connection, deployments, 10, ttl=TTL))


async def test_a_deployment_reads_back_and_its_name_is_taken_once_in_a_project(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    assert (deployment.models, deployment.status, deployment.generation) == (CHAMPION, BEGUN, 1)
    async with engine.begin() as connection:
        store = DeploymentStore(connection)
        assert await store.get("blue", "late") == deployment
        assert await store.add("blue", "late", CHAMPION) is None
        with pytest.raises(DeploymentNotFound):
            await store.get("red", "late")
    await made(engine, project="red")


async def test_a_removed_one_is_gone_for_users_and_its_name_is_free(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    async with engine.begin() as connection:
        store = DeploymentStore(connection)
        await store.remove(deployment)
        assert await store.find("blue", "late") is None
        assert await store.page("blue", after=None, limit=10) == []
    assert (await read(engine, deployment)).removed_at is not None
    assert (await made(engine)).id != deployment.id


async def test_a_revision_is_recorded_once_by_the_owner_of_the_lease(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    [lease] = await leased(engine)
    async with engine.begin() as connection:
        first = await DeploymentStore(connection).revise(lease, deployment, [target(1)])
    assert first is not None
    now = await read(engine, deployment)
    assert now.revision is not None
    assert (now.revision.number, now.revision.targets, now.status.reason) == (1, (target(1),), Reason.LOADING)
    [later] = await leased(engine)
    async with engine.begin() as connection:
        assert await DeploymentStore(connection).revise(lease, now, [target(2)]) is None
        second = await DeploymentStore(connection).revise(later, now, [target(2)])
        assert second is not None
        assert second.number == 2
        references = await DeploymentStore(connection).references(now, {1, 2})
        [desired] = await DeploymentStore(connection).desired()
        [again] = await DeploymentStore(connection).desired([desired])
        [anew] = await DeploymentStore(connection).desired([replace(desired, revision=1)])
    assert references == {"late@1", "late@2"}
    assert (desired.name, desired.revision, desired.targets) == ("late", 2, (target(2),))
    assert again == anew == desired
    assert again.targets is desired.targets  # not read again


async def test_old_revisions_go_but_for_the_newest_and_those_that_a_replica_serves(engine: AsyncEngine) -> None:
    deployment, other = await made(engine), await made(engine, "other")
    for number in range(1, 7):
        async with engine.begin() as connection:
            for lease in await leases.lease_due(connection, deployments, 10, ttl=TTL):
                seen = await DeploymentStore(connection).find_by_id("blue", lease.id)
                if seen == deployment:
                    made_now = await DeploymentStore(connection).revise(lease, seen, [target(number)])
                    assert made_now is not None
            deployment = await DeploymentStore(connection).get("blue", "late")
            await DeploymentStore(connection).nudge([("blue", deployment.id)])
            deployment = await DeploymentStore(connection).get("blue", "late")
    replica = uuid.uuid4()
    async with engine.begin() as connection:
        report = {("blue", deployment.id): Observation(2, 1), ("blue", other.id): Observation(3, 3)}
        await ReplicaStore(connection).report(replica, replica, report)
        assert await DeploymentStore(connection).prune(2) == 2
        assert await DeploymentStore(connection).prune(2) == 0
        kept = await connection.execute(sa.select(revisions.c.number).order_by(revisions.c.number))
        assert list(kept.scalars()) == [1, 2, 5, 6]
        [desired] = await DeploymentStore(connection).desired()
        assert desired.revision == 6


async def test_what_happens_while_somebody_looks_makes_what_he_found_out_of_date(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    [lease] = await leased(engine)
    async with engine.begin() as connection:
        await DeploymentStore(connection).nudge_users_of("blue", "late")
    async with engine.begin() as connection:
        assert not await DeploymentStore(connection).record(lease, deployment, READY, due_in=LATER)
    assert (await read(engine, deployment)).status == BEGUN
    [again] = await leased(engine)
    assert again.fence > lease.fence


async def test_an_answer_to_an_older_question_is_not_recorded(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    [lease] = await leased(engine)
    async with engine.begin() as connection:
        changed = await DeploymentStore(connection).change(deployment, [Part("late@2", 100)])
    async with engine.begin() as connection:
        assert not await DeploymentStore(connection).record(lease, deployment, READY, due_in=LATER)
    assert changed.generation == 2
    assert (await read(engine, deployment)).observed_generation == 0


async def test_what_a_deployment_may_use_is_kept_and_told_to_who_answers(engine: AsyncEngine) -> None:
    plain = await made(engine)
    async with engine.begin() as connection:
        store = DeploymentStore(connection)
        limited = await store.add("blue", "other", CHAMPION, limits=Limits(2, 0, 1 << 30), is_pinned=True)
        assert limited is not None
        assert (plain.limits, plain.is_pinned) == (Limits(), False)
        assert (limited.limits, limited.is_pinned) == (Limits(2, 0, 1 << 30), True)
        assert (await store.change(limited, CHAMPION)).limits == Limits(2, 0, 1 << 30)
        changed = await store.change(limited, CHAMPION, limits=Limits(waiting=7), is_pinned=False)
        assert (changed.limits, changed.is_pinned, changed.generation) == (Limits(waiting=7), False, 3)
    [lease] = [it for it in await leased(engine) if it.id == limited.id]
    async with engine.begin() as connection:
        assert await DeploymentStore(connection).revise(lease, changed, [target(1)])
        [wanted] = await DeploymentStore(connection).desired()
    assert (wanted.limits, wanted.is_pinned) == (Limits(waiting=7), False)


async def test_only_users_of_a_model_are_nudged(engine: AsyncEngine) -> None:
    mine, other = await made(engine), await made(engine, "other", model="late-2@champion")
    theirs = await made(engine, project="red")
    async with engine.begin() as connection:
        await DeploymentStore(connection).nudge_users_of("blue", "late")
    assert [(await read(engine, it)).nudges for it in (mine, other, theirs)] == [1, 0, 0]


async def test_two_at_once_share_what_is_due(engine: AsyncEngine) -> None:
    for number in range(6):
        await made(engine, f"late-{number}")

    async def some() -> set[uuid.UUID]:
        async with engine.begin() as connection:
            return {lease.id for lease in await leases.lease_due(connection, deployments, 4, ttl=TTL)}

    first, second = await asyncio.gather(some(), some())
    assert len(first | second) == 6
    assert not first & second


async def test_what_is_held_is_let_go_twice_and_then_forgotten(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    soon = timedelta(0)
    async with engine.begin() as connection:
        store = HeldStore(connection, deployment)
        await store.intend({"late@1", "late@2"})
        assert await store.lacking({"late@2", "late@3"}) == ["late@3"]
        assert await store.to_release({"late@2"}, again_after=LATER) == ["late@1"]
        await store.released("late@1")
        assert await store.count() == (1, 1)
        assert await store.to_release({"late@2"}, again_after=LATER) == []
        assert await store.to_release({"late@2"}, again_after=soon) == ["late@1"]
        await store.intend({"late@1"})
        assert await store.count() == (2, 0)
        for _ in range(2):
            await store.released("late@1")
        assert await store.count() == (1, 0)


async def test_a_replica_tells_news_once(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    key, replica, boot = (deployment.project, deployment.id), uuid.uuid4(), uuid.uuid4()
    serving, failed = Observation(1, 1), Observation(2, 1, Reason.MODEL_INVALID, "no")
    async with engine.begin() as connection:
        store = ReplicaStore(connection)
        assert await store.report(replica, boot, {key: serving}) == {key}
        assert await store.report(replica, boot, {key: serving}) == set()
        assert await store.report(replica, boot, {key: failed}) == {key}
        assert await store.report(uuid.uuid4(), boot, {}) == set()
        assert set(await store.observed(deployment)) == {NOTHING, failed}
        assert await store.report(replica, boot, {}) == {key}


async def test_a_replica_that_left_or_was_not_heard_of_is_not_waited_for(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    left, silent, boot = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    async with engine.begin() as connection:
        store = ReplicaStore(connection)
        for replica in (left, silent):
            await store.report(replica, boot, {(deployment.project, deployment.id): Observation(1, 1)})
        await store.leave(left, uuid.uuid4())
        assert len(await store.observed(deployment)) == 2
        await store.leave(left, boot)
        ago = sa.func.clock_timestamp() - timedelta(minutes=1)
        await connection.execute(sa.update(replicas).values(seen_at=ago))
        assert await store.observed(deployment) == []
        assert await store.prune(LATER * 2) == 0
        assert await store.prune(LATER / 2) == 1


async def test_only_what_is_removed_is_forgotten(engine: AsyncEngine) -> None:
    deployment = await made(engine)
    [lease] = await leased(engine)
    async with engine.begin() as connection:
        assert not await DeploymentStore(connection).forget(lease, deployment)
        await DeploymentStore(connection).remove(deployment)
        assert await DeploymentStore(connection).forget(lease, deployment)
        assert await DeploymentStore(connection).find_by_id("blue", deployment.id) is None


def test_migrations_go_up_and_down_and_say_what_the_tables_are(empty_database_url: str) -> None:
    config = migrations.config("serving", empty_database_url)
    migrations.upgrade("serving", empty_database_url)
    command.check(config)
    command.downgrade(config, "base")
    engine = sa.create_engine(empty_database_url)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrations.upgrade("serving", empty_database_url)
    assert "deployments" in metadata.tables
