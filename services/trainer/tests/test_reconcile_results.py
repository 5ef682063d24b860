"""A result becomes one model version, whoever is killed on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from jobs_at_work import MODEL, begin, blob_of, fail, hand_over, lease, look, pass_time, told, trained, turn
from makers import add_job
from neighbours import Neighbours, digest_of
from requests_made import TTL
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.blobs import BlobStore
from kit.clients import Principal
from kit.testing import eventually
from kit.testing_objects import Objects
from trainer import actions
from trainer.clients.ingest import IngestClient
from trainer.clients.registry import RegistryClient
from trainer.domain.jobs import Phase, Reason, Why
from trainer.reconcile import Reconciler
from trainer.settings import Settings
from trainer.store import tables
from trainer.store.attempts import AttemptStore


async def test_a_result_becomes_a_model_version_with_its_lineage(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours
) -> None:
    job, attempt = await trained(engine, worker, store)
    await turn(engine, worker)
    found = await look(engine, job)
    [version] = world.models["delays"]
    assert (found.phase, found.metrics) == (Phase.SUCCEEDED, {"roc_auc": 0.75})
    assert found.model == {"name": "delays", "version": 1, "digest": version["digest"]}
    manifest = version["manifest"]
    assert manifest["lineage"] == {
        "dataset": "flights@3",
        "dataset_digest": world.versions["flights@3"]["digest"],
        "job": str(job.id),
        "attempt": 1,
        "code_digest": "sha256:" + "c" * 64,
        "environment": {"python": "3.11"},
    }
    assert [file["path"] for file in manifest["formats"]] == ["model.skops"]
    assert world.blobs == {digest_of(MODEL): MODEL}
    [event] = await told(engine)
    assert (event.kind, event.data["model"], event.data["dataset"]) == ("job.succeeded", found.model, "flights@3")
    async with engine.begin() as connection:  # the registry has its own copy by now
        assert not await AttemptStore(connection).has_output(attempt, digest_of(MODEL))


async def test_what_earlier_attempts_handed_over_goes_with_a_success(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours
) -> None:
    job = await add_job(engine, features=("hour", "carrier"))
    await turn(engine, worker)
    first = await begin(engine, job)
    other = await blob_of(store, first.project, b"an earlier model")
    async with engine.begin() as connection:
        await actions.keep_output(connection, first.project, first.id, fence=first.fence, blob=other)
    await fail(engine, first, Why(Reason.CRASHED, "killed"))
    await pass_time(engine, timedelta(minutes=2))
    await turn(engine, worker)
    await hand_over(engine, store, await begin(engine, job))
    await turn(engine, worker)
    assert (await look(engine, job)).phase is Phase.SUCCEEDED
    async with engine.begin() as connection:
        assert not await AttemptStore(connection).has_output(first, other.digest)


async def test_a_job_that_registers_nothing_keeps_its_outputs_and_metrics(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours
) -> None:
    job, attempt = await trained(engine, worker, store, model=None)
    await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.metrics, found.model) == (Phase.SUCCEEDED, {"roc_auc": 0.75}, None)
    assert world.models == {}
    async with engine.begin() as connection:
        assert await AttemptStore(connection).has_output(attempt, digest_of(MODEL))


class Killed(BaseException):
    """The process ends here."""


class DiesAfter(RegistryClient):
    """Registers, and does not live to see the answer."""

    def __init__(self, other: RegistryClient) -> None:
        super().__init__(other._service)

    async def put_version(self, principal: Principal, model: str, manifest: dict[str, Any]) -> dict[str, Any]:
        await super().put_version(principal, model, manifest)
        raise Killed


async def test_a_kill_between_the_registry_s_answer_and_our_commit_makes_one_version(
    engine: AsyncEngine,
    worker: Reconciler,
    store: BlobStore,
    ingest: IngestClient,
    registry: RegistryClient,
    world: Neighbours,
) -> None:
    job, _ = await trained(engine, worker, store)
    await worker.reconcile(await lease(engine))  # the point of no return
    dying = Reconciler(engine, store, ingest, DiesAfter(registry))
    with pytest.raises(Killed):
        await dying.reconcile(await lease(engine))
    assert (await look(engine, job)).phase is Phase.RUNNING
    await pass_time(engine, TTL + timedelta(seconds=1))
    await turn(engine, worker)
    assert ((await look(engine, job)).model or {})["version"] == 1
    assert len(world.models["delays"]) == 1


async def test_the_registry_away_delays_the_end_and_a_refusal_is_one(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours
) -> None:
    job, _ = await trained(engine, worker, store)
    with world.answering("PUT", "/models/", 503, {"detail": "Not now."}):
        await turn(engine, worker)
    found = await look(engine, job)
    assert (found.registering, found.why.reason, found.why.message) == (True, Reason.REGISTERING, "Not now.")
    await pass_time(engine, timedelta(seconds=5))
    with world.answering("PUT", "/models/", 422, {"detail": "Two models are enough."}):
        await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.why.reason) == (Phase.FAILED, Reason.REGISTRATION_REFUSED)
    assert "Two models are enough." in found.why.message


async def test_a_stored_output_that_was_damaged_is_not_registered(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours, settings: Settings
) -> None:
    job, _ = await trained(engine, worker, store)
    Objects(settings.objects_url).damage(store.key_of("blue", digest_of(MODEL)))
    await turn(engine, worker)
    found = await look(engine, job)
    assert (found.phase, found.why.reason) == (Phase.FAILED, Reason.REGISTRATION_REFUSED)
    assert world.models == {}


async def test_bytes_that_the_registry_finds_damaged_are_sent_again(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, world: Neighbours
) -> None:
    job, _ = await trained(engine, worker, store)
    with world.answering("PUT", "/blobs/", 502, {"code": "artifact-corrupt", "detail": "Not what was sent."}):
        await turn(engine, worker)
    assert (await look(engine, job)).registering
    await pass_time(engine, timedelta(seconds=15))
    await turn(engine, worker)
    assert (await look(engine, job)).phase is Phase.SUCCEEDED


class Slow(RegistryClient):
    """Takes as long as the test wants."""

    def __init__(self, other: RegistryClient, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(other._service)
        self._meanwhile = meanwhile

    async def put_version(self, principal: Principal, model: str, manifest: dict[str, Any]) -> dict[str, Any]:
        await self._meanwhile()
        return await super().put_version(principal, model, manifest)


async def test_a_lease_is_kept_while_the_registry_works_and_lost_work_is_let_go(
    engine: AsyncEngine,
    worker: Reconciler,
    store: BlobStore,
    ingest: IngestClient,
    registry: RegistryClient,
    world: Neighbours,
) -> None:
    job, _ = await trained(engine, worker, store)
    await worker.reconcile(await lease(engine))
    short = timedelta(milliseconds=60)

    async def kept() -> None:
        mine = leased.fence
        async with engine.begin() as connection:
            until = (await connection.execute(sa.select(tables.jobs.c.lease_until))).scalar_one()

        async def extended() -> bool:
            async with engine.begin() as connection:
                return bool((await connection.execute(sa.select(tables.jobs.c.lease_until != until))).scalar_one())

        await eventually(extended)
        async with engine.begin() as connection:  # somebody takes it all the same
            await connection.execute(sa.update(tables.jobs).values(fence=mine + 1))
        await asyncio.Event().wait()  # until the loss is noticed

    leased = await lease(engine)
    await Reconciler(engine, store, ingest, Slow(registry, kept), ttl=short).reconcile(leased)
    assert (await look(engine, job)).phase is Phase.RUNNING
    assert world.models == {}
