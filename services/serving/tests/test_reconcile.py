"""References become revisions, replicas make them ready, and what is not needed is let go."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from targets import SIGNATURE, digest

from kit import errors, events, leases
from kit.events import Event
from kit.reconcile import controller
from kit.testing import eventually
from serving import actions
from serving.domain.deployments import Deployment, Part, Phase, Reason, Reference
from serving.domain.observations import Observation
from serving.reconcile import Reconciler, apply
from serving.store.deployments import DeploymentStore
from serving.store.replicas import ReplicaStore
from serving.store.tables import deployments, held

TTL = timedelta(seconds=30)
REPLICA = uuid.UUID(int=1)


class FakeRegistry:
    """Versions 1 to 9 of every model; aliases, and how it feels."""

    def __init__(self) -> None:
        self.aliases = {"champion": 1}
        self.holds: set[str] = set()
        self.asked = 0
        self.placed: list[str] = []
        self.gone: set[str] = set()
        self.broken: dict[int, dict[str, Any]] = {}
        self.away = False
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.before_hold: Callable[[], Awaitable[None]] | None = None

    async def version(self, project: str, reference: Reference) -> dict[str, Any]:
        self._be_there()
        self.asked += 1
        named = reference.version
        number = int(named) if named.isdigit() else self.aliases.get(named, 0)
        if self.before_answer is not None:
            await self.before_answer()
        if not number or f"{reference.model}@{number}" in self.gone:
            raise errors.NotFound("no such version")
        file = {"format": "onnx", "path": "model.onnx", "digest": digest(str(number)), "size": 10}
        described = {"model": reference.model, "version": number, "digest": digest(), "formats": [file]}
        return {**described, "signature": SIGNATURE, **self.broken.get(number, {})}

    async def hold(self, project: str, ref: str, holder: str) -> None:
        self._be_there()
        if self.before_hold is not None:
            await self.before_hold()
        if ref in self.gone:
            raise errors.NotFound("no such version")
        self.placed.append(ref)
        self.holds.add(ref)

    async def release(self, project: str, ref: str, holder: str) -> None:
        self._be_there()
        self.holds.discard(ref)

    def _be_there(self) -> None:
        if self.away:
            raise errors.Unavailable("The registry is not answering.")


class World:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.registry = FakeRegistry()
        self.reconciler = Reconciler(engine, self.registry)

    async def add(self, name: str = "late", *models: Part) -> None:
        async with self.engine.begin() as connection:
            await DeploymentStore(connection).add("demo", name, models or [Part("late@champion", 100)])

    async def get(self, name: str = "late") -> Deployment:
        async with self.engine.begin() as connection:
            return await DeploymentStore(connection).get("demo", name)

    async def lease(self) -> leases.Lease:
        async with self.engine.begin() as connection:
            await connection.execute(sa.update(deployments).values(due_at=sa.func.clock_timestamp()))
            [lease] = await leases.lease_due(connection, deployments, 1, ttl=TTL)
        return lease

    async def expire(self) -> None:
        async with self.engine.begin() as connection:
            past = sa.func.clock_timestamp() - timedelta(seconds=1)
            await connection.execute(sa.update(deployments).values(lease_until=past))

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            await self.reconciler.reconcile(await self.lease())

    async def observe(self, observation: Observation | None, name: str = "late", replica: uuid.UUID = REPLICA) -> None:
        async with self.engine.begin() as connection:
            found = await DeploymentStore(connection).find("demo", name)
            told = {} if observation is None or found is None else {(found.project, found.id): observation}
            news = await ReplicaStore(connection).report(replica, uuid.uuid4(), told)
            await DeploymentStore(connection).nudge(news)

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        async def read() -> list[tuple[str, dict[str, Any]]]:
            async with self.engine.begin() as connection:
                return [(event.kind, event.data) for event in (await events.read(connection, "0:0")).events]

        return await read()

    async def ready(self) -> None:
        await self.add()
        await self.step()
        await self.observe(Observation(1, 1))
        await self.step()
        assert (await self.get()).status.phase is Phase.READY


@pytest.fixture
def world(engine: AsyncEngine) -> World:
    return World(engine)


async def test_a_reference_becomes_a_revision_that_is_held_and_ready_once_every_replica_serves_it(world: World) -> None:
    await world.add()
    await world.step()
    found = await world.get()
    assert found.revision is not None
    assert (found.revision.number, found.revision.targets[0].reference) == (1, "late@1")
    assert world.registry.holds == {"late@1"}
    await world.step()
    assert (await world.get()).status.reason is Reason.NO_REPLICA
    await world.observe(Observation(1, 1))
    await world.observe(Observation(1, None), replica=uuid.UUID(int=2))
    await world.step()
    assert ((await world.get()).status.reason, (await world.get()).is_settled) == (Reason.LOADING, False)
    await world.observe(Observation(1, 1), replica=uuid.UUID(int=2))
    await world.step(2)
    found = await world.get()
    assert found.is_settled
    facts = {"deployment": "late", "generation": 1, "revision": 1}
    assert await world.events() == [("deployment.ready", facts)]


async def test_a_moved_alias_is_the_next_revision_and_the_version_before_is_let_go_when_nobody_serves_it(
    world: World,
) -> None:
    await world.ready()
    world.registry.aliases["champion"] = 2
    moved = Event(id="1:1", project="demo", kind="model.alias.moved", subject="", data={"model": "late"}, at=NOW)
    async with world.engine.begin() as connection:
        await apply(connection, [moved])
    await world.step()
    await world.observe(Observation(2, 1))
    await world.step()
    assert ((await world.get()).status.phase, world.registry.holds) == (Phase.PENDING, {"late@1", "late@2"})
    await world.observe(Observation(2, 2))
    await world.step()
    assert ((await world.get()).status.phase, world.registry.holds) == (Phase.READY, {"late@2"})
    assert [kind for kind, _ in await world.events()] == ["deployment.ready", "deployment.ready"]


async def test_what_means_the_same_makes_no_revision(world: World) -> None:
    await world.ready()
    async with world.engine.begin() as connection:
        store = DeploymentStore(connection)
        await store.change(await store.get("demo", "late", lock=True), [Part("late@1", 100)])
    await world.step(2)
    found = await world.get()
    assert found.revision is not None
    assert (found.generation, found.revision.number, found.is_settled) == (2, 1, True)


async def test_what_a_replica_cannot_load_is_failed_with_its_reason_until_it_can(world: World) -> None:
    await world.add()
    await world.step()
    await world.observe(Observation(1, None, Reason.ARTIFACT_CORRUPT, "one bit"))
    await world.step(2)
    found = await world.get()
    assert (found.status.phase, found.status.reason, found.status.message) == (
        Phase.FAILED,
        Reason.ARTIFACT_CORRUPT,
        "one bit",
    )
    [(kind, data)] = await world.events()
    assert (kind, data["reason"]) == ("deployment.failed", "artifact-corrupt")
    await world.observe(Observation(1, 1))
    await world.step()
    assert (await world.get()).status.phase is Phase.READY


async def test_a_reference_that_vanishes_fails_and_what_is_served_stays(world: World) -> None:
    await world.ready()
    del world.registry.aliases["champion"]
    await world.step()
    found = await world.get()
    assert (found.status.phase, found.status.reason) == (Phase.FAILED, Reason.MODEL_NOT_FOUND)
    assert found.revision is not None
    assert world.registry.holds == {"late@1"}


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"formats": []}, Reason.NOT_SERVABLE),
        ({"signature": {**SIGNATURE, "inputs": [{"name": "b", "type": "number"}]}}, Reason.SIGNATURES_DIFFER),
    ],
)
async def test_models_that_cannot_be_served_together_fail(world: World, second: dict[str, Any], reason: Reason) -> None:
    world.registry.broken[2] = second
    await world.add("late", Part("late@1", 50), Part("late@2", 50))
    await world.step()
    assert (await world.get()).status.reason is reason


async def test_a_version_that_goes_before_it_is_held_fails(world: World) -> None:
    async def vanish() -> None:
        world.registry.gone.add("late@1")

    world.registry.before_hold = vanish
    await world.add()
    await world.step()
    assert (await world.get()).status.reason is Reason.MODEL_NOT_FOUND


async def test_without_the_registry_what_is_new_waits_and_what_is_served_goes_on(world: World) -> None:
    await world.ready()
    await world.add("other")
    world.registry.away = True
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(deployments).values(due_at=sa.func.clock_timestamp()))
        both = await leases.lease_due(connection, deployments, 2, ttl=TTL)
    for lease in both:
        await world.reconciler.reconcile(lease)
    assert (await world.get()).status.phase is Phase.READY
    assert (await world.get("other")).status.reason is Reason.REGISTRY_UNAVAILABLE


async def test_a_ready_deployment_stays_so_while_another_replica_starts(world: World) -> None:
    await world.ready()
    await world.observe(None, replica=uuid.UUID(int=2))
    await world.step()
    assert (await world.get()).status.phase is Phase.READY


async def test_a_removed_deployment_lets_go_when_nobody_serves_it_and_is_forgotten_after_a_while(world: World) -> None:
    await world.ready()
    async with world.engine.begin() as connection:
        store = DeploymentStore(connection)
        await store.remove(await store.get("demo", "late", lock=True))
        [row] = await connection.execute(sa.select(deployments.c.id))
    await world.step()
    assert world.registry.holds == {"late@1"}
    await world.observe(None)
    world.registry.away = True
    await world.step()
    world.registry.away = False
    await world.step()
    assert world.registry.holds == set()
    async with world.engine.begin() as connection:
        assert await DeploymentStore(connection).find_by_id("demo", row.id) is not None
    # What a replica that stalled past its lease held late is let go by the second time.
    world.registry.holds.add("late@1")
    world.reconciler = Reconciler(world.engine, world.registry, again=timedelta(0))
    await world.step()
    assert world.registry.holds == set()
    async with world.engine.begin() as connection:
        assert await DeploymentStore(connection).find_by_id("demo", row.id) is None
    await world.reconciler.reconcile(leases.Lease("demo", row.id, 99))


async def test_two_loops_share_the_work_and_make_every_revision_once(world: World) -> None:
    for number in range(20):
        await world.add(f"late-{number}")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            work = Reconciler(world.engine, world.registry).reconcile
            group.create_task(controller(world.engine, deployments, work, workers=2, poll=0.05, stop=stop))

        async def all_made() -> bool:
            return all([(await world.get(f"late-{number}")).revision for number in range(20)])

        await eventually(all_made)
        stop.set()
    assert [(await world.get(f"late-{number}")).revision.number for number in range(20)] == [1] * 20  # type: ignore[union-attr]  # seen above
    assert world.registry.placed == ["late@1"] * 20


async def test_a_stale_lease_records_nothing(world: World) -> None:
    await world.add()
    stale = await world.lease()
    await world.expire()
    await world.step()
    world.registry.aliases["champion"] = 2
    await world.reconciler.reconcile(stale)
    found = await world.get()
    assert found.revision is not None
    assert found.revision.targets[0].version == 1
    await world.step()
    # Held by the one that stalled, for nothing: it is swept as soon as the deployment is settled.
    world.registry.aliases["champion"] = 1
    await world.step()
    number = (await world.get()).revision.number  # type: ignore[union-attr]  # it has one
    await world.observe(Observation(number, number))
    await world.step()
    assert world.registry.holds == {"late@1"}


async def test_a_change_in_the_middle_wins(world: World) -> None:
    await world.add()

    async def change() -> None:
        world.registry.before_answer = None
        async with world.engine.begin() as connection:
            store = DeploymentStore(connection)
            await store.change(await store.get("demo", "late", lock=True), [Part("late@7", 100)])

    world.registry.before_answer = change
    await world.step()
    assert (await world.get()).revision is None
    await world.step()
    found = await world.get()
    assert found.revision is not None
    assert found.revision.targets[0].version == 7


async def test_an_alias_that_moves_while_it_is_looked_up_is_looked_up_again(world: World) -> None:
    await world.ready()

    async def move() -> None:
        world.registry.before_answer = None
        world.registry.aliases["champion"] = 3
        async with world.engine.begin() as connection:
            await DeploymentStore(connection).nudge_users_of("demo", "late")

    world.registry.before_answer = move
    await world.step()
    async with world.engine.begin() as connection:
        [lease] = await leases.lease_due(connection, deployments, 1, ttl=TTL)
    await world.reconciler.reconcile(lease)
    found = await world.get()
    assert found.revision is not None
    assert found.revision.targets[0].version == 3


async def test_what_was_let_go_late_by_a_stalled_replica_is_held_again(world: World) -> None:
    await world.ready()
    world.registry.holds.clear()
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(held).values(released_at=sa.func.clock_timestamp()))
    await world.step()
    assert world.registry.holds == {"late@1"}


async def test_nothing_is_let_go_by_one_whose_lease_is_another_s(world: World) -> None:
    await world.ready()
    world.registry.aliases["champion"] = 2
    await world.step()
    await world.observe(Observation(2, 2))
    lease = await world.lease()
    await world.expire()
    await world.lease()
    await world.reconciler.reconcile(lease)
    assert world.registry.holds == {"late@1", "late@2"}


async def test_resolving_says_which_of_several_is_wrong(world: World) -> None:
    models = [Part("late@1", 1), Part("late@nobody", 1)]
    with pytest.raises(actions.ModelNotFound) as raised:
        await actions.resolve(world.registry, "demo", models)
    assert raised.value.errors == [{"pointer": "#/models/1/model", "detail": "there is no model version late@nobody"}]


NOW = "2026-01-01T00:00:00Z"
