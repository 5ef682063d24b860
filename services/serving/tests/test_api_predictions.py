"""Requests that are answered later: what is acknowledged is answered, once, as predict would have answered it."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import rows, trained

from kit import leases
from kit.callers import Role
from kit.testing import KeyFolder, eventually
from serving.api.later import LaterWorker, problem_of_lost
from serving.api.state import Parts
from serving.domain.predictions import ATTEMPTS, Later
from serving.settings import Settings
from serving.store.predictions import PredictionStore
from serving.store.tables import predictions

PATH = "/v1/deployments/late/predictions"


@pytest.fixture
async def late(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> Any:
    """A deployment, in a process where few requests may wait."""
    registry.register("late", trained())
    async with Serving.started(settings(waiting_predictions=3, prediction_workers=2), key_folder) as it:
        await it.deploy("late", "late")
        yield it


async def ended(late: Serving, location: str) -> dict[str, Any]:
    found = (await late.http.get(location, params={"wait": "10s"})).raise_for_status().json()
    assert found["status"]["phase"] != "pending", found
    return dict(found)


async def test_it_is_answered_as_predict_answers(late: Serving) -> None:
    body = {"rows": rows(5)}
    taken = await late.http.post(PATH, json=body, headers=late.headers(role=Role.VIEWER))
    assert (taken.status_code, taken.headers["location"]) == (202, f"{PATH}/{taken.json()['id']}")
    assert taken.json()["status"] == {"phase": "pending", "message": ""}
    found = await ended(late, taken.headers["location"])
    assert found["answer"] == (await late.http.post("/v1/deployments/late/predict", json=body)).json()
    assert (found["status"]["phase"], found["problem"]) == ("succeeded", None)
    assert found["finished_at"] > found["created_at"]


async def test_what_the_model_refuses_is_the_problem_that_predict_answers(late: Serving) -> None:
    body = {"rows": [rows(1)[0] | {"distance": "far"}]}
    taken = await late.http.post(PATH, json=body)
    found = await ended(late, taken.headers["location"])
    refused = (await late.http.post("/v1/deployments/late/predict", json=body)).json()
    assert (found["status"]["phase"], found["answer"]) == ("failed", None)
    assert found["problem"] | {"request_id": ""} == refused | {"request_id": ""}


async def test_a_key_takes_a_request_once(late: Serving) -> None:
    key = {"idempotency-key": "k"}
    first, second = [await late.http.post(PATH, json={"rows": rows(1)}, headers=key) for _ in range(2)]
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["location"] == first.headers["location"]
    other = await late.http.post(PATH, json={"rows": rows(2)}, headers={"idempotency-key": "k"})
    assert other.json()["code"] == "idempotency-key-reused"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed-request"),
        (b"[]", 422, "request-invalid"),
        (b'{"rows": [], "more": 1}', 422, "request-invalid"),
        (b" " * ((4 << 20) + 1), 413, "content-too-large"),
    ],
)
async def test_what_is_no_request_is_not_taken(late: Serving, content: bytes, status: int, code: str) -> None:
    refused = await late.http.post(PATH, content=content, headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_of_nothing_there_is_no_answer(late: Serving) -> None:
    absent = await late.http.post("/v1/deployments/absent/predictions", json={"rows": rows(1)})
    assert absent.json()["code"] == "deployment-not-found"
    taken = await late.http.post(PATH, json={"rows": rows(1)})
    for path, of in (
        (f"{PATH}/{uuid.uuid4()}", {}),
        (f"/v1/deployments/other/predictions/{taken.json()['id']}", {}),
        (taken.headers["location"], {"project": "other"}),
    ):
        answer = await late.http.get(path, headers=late.headers(**of))
        assert (answer.status_code, answer.json()["code"]) == (404, "prediction-not-found")


async def test_a_deployment_that_is_gone_by_then(late: Serving, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        later = await PredictionStore(connection).add("demo", "gone", "r", orjson.dumps({"rows": rows(1)}))
    found = await ended(late, f"/v1/deployments/gone/predictions/{later.id}")
    assert (found["status"]["phase"], found["problem"]["code"]) == ("failed", "deployment-not-found")


async def test_what_is_not_loaded_is_waited_for_and_many_are_not_taken(
    late: Serving, registry: Registry, engine: AsyncEngine
) -> None:
    registry.register("slow", trained(seed=3))
    for file in registry.versions[("demo", "slow")][1]["formats"]:
        registry.contents[file["digest"]] = b"damaged"
    await late.put("slow", "slow")
    await late.settled("slow", "failed")
    path = "/v1/deployments/slow/predictions"
    taken = [await late.http.post(path, json={"rows": rows(1)}) for _ in range(4)]
    assert [it.status_code for it in taken] == [202, 202, 202, 429]
    assert taken[3].json()["code"] == "too-many-predictions"

    async def told() -> bool:
        shown = (await late.http.get(taken[0].headers["location"])).json()["status"]
        return shown["phase"] == "pending" and "not loaded" in shown["message"]

    await eventually(told)
    async with engine.begin() as connection:
        await PredictionStore(connection).purge(timedelta(0), problem_of_lost(timedelta(hours=24)))
    lost = await ended(late, taken[0].headers["location"])
    assert (lost["problem"]["code"], lost["problem"]["status"]) == ("prediction-lost", 503)
    async with engine.begin() as connection:
        assert await PredictionStore(connection).purge(timedelta(0), problem_of_lost(timedelta(0))) == 3
    assert (await late.http.get(taken[0].headers["location"])).status_code == 404


@pytest.fixture
async def idle(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> Any:
    """A deployment, and the parts of a worker; nothing is taken from the queue by itself."""
    registry.register("late", trained())
    async with Serving.started(settings(), key_folder) as it:
        await it.deploy("late", "late")
        async with it.app.api.router.lifespan_context(it.app.api) as state:
            yield Idle(engine, dict(state or {})["parts"])


class Idle:
    def __init__(self, engine: AsyncEngine, parts: Parts) -> None:
        self.engine = engine
        self.parts = parts
        self.stop = asyncio.Event()

    def worker(self) -> LaterWorker:
        return LaterWorker(self.engine, self.parts, self.stop)

    async def add(self) -> tuple[Later, leases.Lease]:
        """One that only this test has."""
        async with self.engine.begin() as connection:
            later = await PredictionStore(connection).add("demo", "late", "r", orjson.dumps({"rows": rows(1)}))
            [lease] = await leases.lease_due(
                connection, predictions, 1, ttl=timedelta(minutes=5), where=[predictions.c.id == later.id]
            )
        return later, lease

    async def seen(self, later: Later) -> Later:
        async with self.engine.begin() as connection:
            return await PredictionStore(connection).get("demo", "late", later.id)


async def test_a_stale_fence_answers_nothing(idle: Idle) -> None:
    later, stale = await idle.add()
    async with idle.engine.begin() as connection:
        assert await leases.lease_due(connection, predictions, 1, ttl=timedelta(0)) == []  # it is leased
        await connection.execute(predictions.update().values(lease_until=None))
        [fresh] = await leases.lease_due(connection, predictions, 1, ttl=timedelta(minutes=5))
    await idle.worker().work(stale)
    assert (await idle.seen(later)).attempts == 0
    await idle.worker().work(fresh)
    done = await idle.seen(later)
    assert (done.status, done.attempts) == (200, 1)
    await idle.worker().work(fresh)
    assert await idle.seen(later) == done


async def test_a_request_that_ends_its_process_is_given_up(idle: Idle) -> None:
    later, lease = await idle.add()
    async with idle.engine.begin() as connection:
        for _ in range(ATTEMPTS):
            assert await PredictionStore(connection).begin(lease) is not None
    await idle.worker().work(lease)
    lost = await idle.seen(later)
    assert lost.status == 503
    assert lost.answer is not None
    assert orjson.loads(lost.answer)["code"] == "prediction-lost"


async def test_a_process_that_ends_takes_nothing_any_more(idle: Idle) -> None:
    idle.stop.set()
    assert await idle.worker().claim(5) == []
