"""Rows in, predictions out."""

import asyncio
import json
import threading
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from registries import Registry
from servings_at_work import Serving
from targets import target
from test_api_deployments import problem
from worlds import COLUMNS, LOGISTIC, REGRESSOR, rows, trained

from kit.callers import Caller, Role
from kit.testing import eventually
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature
from serving.api.predict import LIMIT, beside, predict
from serving.api.watching import Watch
from serving.domain.desired import Desired
from serving.domain.limits import Limits
from serving.replica.lanes import Lane
from serving.replica.pace import Pace
from serving.replica.table import Answering, Live, Table
from trainyard.results import Answer

PATH = "/v1/deployments/late/predict"
NAMES = [column.name for column in COLUMNS]


@pytest.fixture
async def late(serving: Serving, registry: Registry) -> Serving:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    return serving


async def test_rows_are_objects_or_arrays(late: Serving) -> None:
    asked = rows(20)
    answer = await late.predict("late", asked)
    seen = Answer.of(answer.json())
    assert (len(seen.predictions), seen.model, seen.version, seen.revision) == (20, "late", 1, 1)
    mixed = list(reversed(NAMES))
    arrays = await late.predict("late", [[row[name] for name in mixed] for row in asked], columns=mixed)
    assert arrays.json() == answer.json()


@pytest.mark.parametrize(
    ("path", "options"),
    [(LOGISTIC, {}), (REGRESSOR, {}), (LOGISTIC, {"classes": ("early", "late")}), (LOGISTIC, {"classes": (7, 8)})],
)
async def test_every_kind_of_answer_is_the_estimator_s(
    serving: Serving, registry: Registry, path: str, options: dict[str, Any]
) -> None:
    made = trained(path, **options)
    registry.register("late", made)
    await serving.deploy("late", "late")
    asked = rows(30, seed=5)
    answers = (await serving.predict("late", asked)).json()["predictions"]
    labels, scores = made.predict(asked)
    if scores is None:
        assert [it["value"] for it in answers] == pytest.approx(labels, rel=1e-5)
    else:
        assert [it["label"] for it in answers] == labels
        assert [it["score"] for it in answers] == pytest.approx(scores[:, 1].tolist(), abs=1e-5)


async def test_a_model_without_a_twin_answers_from_a_child(serving: Serving, registry: Registry) -> None:
    made = trained(LOGISTIC, twin=False)
    registry.register("late", made)
    found = await serving.deploy("late", "late")
    assert found["revision"]["targets"][0]["format"] == "skops"
    asked = rows(10)
    answers = (await serving.predict("late", asked)).json()["predictions"]
    labels, scores = made.predict(asked)
    assert [(it["label"], it["score"]) for it in answers] == list(zip(labels, scores[:, 1].tolist(), strict=True))


GOOD = rows(1)[0]


@pytest.mark.parametrize(
    ("content", "status", "code", "pointers"),
    [
        (b"", 400, "malformed-request", []),
        (b"{", 400, "malformed-request", []),
        (b'{"rows": [{"distance": NaN}]}', 400, "malformed-request", []),
        (b'{"rows": "\\ud800"}', 400, "malformed-request", []),
        (b'{"rows": [{"distance": 1, "distance": 2}]}', 400, "malformed-request", []),
        (b"[]", 422, "request-invalid", ["#"]),
        (b"{}", 422, "rows-invalid", ["#/rows"]),
        (b'{"rows": []}', 422, "rows-invalid", ["#/rows"]),
        (b'{"rows": [], "model": 1}', 422, "request-invalid", ["#/model"]),
        ({"rows": [GOOD, 7]}, 422, "rows-invalid", ["#/rows/1"]),
        ({"rows": [{**GOOD, "more": 1}]}, 422, "rows-invalid", ["#/rows/0/more"]),
        ({"rows": [GOOD, {}]}, 422, "rows-invalid", [f"#/rows/1/{name.replace('/', '~1')}" for name in NAMES]),
        ({"rows": [{**GOOD, "distance": "far", "wind/kt": True}]}, 422, "rows-invalid", None),
        ({"rows": [{**GOOD, "distance": None}]}, 422, "rows-invalid", ["#/rows/0/distance"]),
        ({"rows": [[1]], "columns": ["distance"]}, 422, "rows-invalid", None),
    ],
)
async def test_a_request_that_does_not_fit_is_refused_with_its_places(
    late: Serving, content: bytes | dict[str, Any], status: int, code: str, pointers: list[str] | None
) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    found = problem(await late.http.post(PATH, content=body), status, code)
    if pointers is None:
        assert found["errors"]
    else:
        assert [place["pointer"] for place in found.get("errors", [])] == pointers


async def test_what_is_too_large_or_packed_is_refused(late: Serving) -> None:
    problem(await late.http.post(PATH, content=b" " * (LIMIT + 1)), 413, "content-too-large")
    packed = {"content-encoding": "gzip"}
    problem(await late.http.post(PATH, content=b"x", headers=packed), 415, "unsupported-media-type")


async def test_a_body_full_of_rows_is_refused_and_holds_up_nobody(late: Serving) -> None:
    body = b'{"columns": ["distance"], "rows": [' + b"[1]," * 1_040_000 + b"[1]]}"
    assert LIMIT - 64_000 < len(body) <= LIMIT
    async with asyncio.timeout(10):
        refused, answer = await asyncio.gather(late.http.post(PATH, content=body), late.predict("late", rows(1)))
    found = problem(refused, 422, "rows-invalid")
    assert "10000 rows at most" in found["detail"]
    assert [place["pointer"] for place in found["errors"]] == ["#/rows"]
    assert answer.status_code == 200
    tensor = {"name": "distance", "datatype": "FP32", "shape": [1_000_001, 1], "data": [1] * 1_000_001}
    refused = await late.http.post("/v2/models/late/infer", json={"inputs": [tensor]})
    assert refused.status_code == 400
    assert "more than 1000000 elements" in refused.json()["error"]


async def test_many_rows_are_read_and_answered_on_a_thread_with_the_same_answers(late: Serving) -> None:
    many = rows(2000)
    answers = (await late.predict("late", many)).json()["predictions"]
    few = (await late.predict("late", many[:100])).json()["predictions"]
    assert [it["label"] for it in answers[:100]] == [it["label"] for it in few]
    assert [it["score"] for it in answers[:100]] == pytest.approx([it["score"] for it in few])
    assert len(answers) == 2000
    assert await beside(False, threading.get_ident) == threading.get_ident()
    assert await beside(True, threading.get_ident) != threading.get_ident()


async def test_a_deployment_that_is_not_there_is_not_found(late: Serving) -> None:
    problem(await late.predict("nobody", rows(1)), 404, "deployment-not-found")


async def test_weighted_models_share_requests_and_a_request_id_always_meets_the_same(
    serving: Serving, registry: Registry
) -> None:
    registry.register("late", trained())
    registry.register("late", trained(seed=1))
    models = [{"model": "late@1", "weight": 3}, {"model": "late@2", "weight": 1}]
    await serving.deploy("late", models)

    async def version(request: int) -> int:
        headers = {"x-request-id": f"r-{request}"}
        answer = await serving.http.post(PATH, json={"rows": rows(1)}, headers=headers)
        return int(answer.json()["version"])

    met = [await version(request) for request in range(100)]
    assert met == [await version(request) for request in range(100)]
    assert 10 <= met.count(2) <= 40


async def test_answers_are_counted_by_deployment_and_revision(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained())
    await serving.deploy("counted", "late")
    await serving.predict("counted", rows(7))
    text = (await serving.http.get("/metrics")).text
    labels = 'deployment="counted",project="demo",revision="1"'
    assert f"trainyard_predicted_rows_total{{{labels}}} 7.0" in text
    assert f"trainyard_predict_seconds_count{{{labels}}} 1.0" in text
    registry.register("late", trained(seed=1))
    await serving.answers_with("counted", rows(1)[0], 2)

    async def forgets() -> bool:
        return labels not in (await serving.http.get("/metrics")).text

    await eventually(forgets)


class Slow:
    """A model that never comes to an end."""

    def __init__(self) -> None:
        self.signature: AnySignature = trained().signature
        self.asked = asyncio.Event()
        self.was_given_up = False
        self.is_lost = False
        self.pace: Pace | None = None
        self.bytes = 0

    def is_quick(self, rows: int) -> bool:
        return False

    def lane(self, limits: Limits) -> Lane:
        raise AssertionError("it is asked without one")

    async def predict(self, arrays: Arrays, rows: int) -> Prediction:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_given_up = True
            raise
        raise AssertionError("nobody sets it")

    async def close(self) -> None: ...


async def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    model, table = Slow(), Table()
    wanted = Desired("demo", "slow", uuid.uuid4(), 1, (target(),))
    table.put(Live(wanted, (Answering(target(), model),)))
    caller = Caller("demo", Role.VIEWER, "ada", "gateway")
    state = {"parts": SimpleNamespace(table=table, watch=Watch()), "caller": caller, "request_id": "r"}
    scope = {"type": "http", "headers": [], "path_params": {"name": "slow"}, "state": state}
    said: list[Any] = []
    messages: list[Any] = [{"type": "http.request", "body": json.dumps({"rows": rows(1)}).encode()}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await model.asked.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    await predict(scope, receive, send)
    await eventually(lambda: model.was_given_up)
    assert said == []


def test_a_deployment_is_found_by_its_name_and_by_its_id_until_it_is_dropped() -> None:
    table, first, second = Table(), uuid.uuid4(), uuid.uuid4()
    lives = [Live(Desired("demo", "late", key, 1, (target(),)), ()) for key in (first, second)]
    table.put(lives[0])
    assert table.of(first) is lives[0]
    table.put(lives[1])  # deleted, and made anew under its name
    assert (table.of(first), table.of(second)) == (None, lives[1])
    table.drop(lives[1])
    assert table.of(second) is None
    assert list(table) == []
