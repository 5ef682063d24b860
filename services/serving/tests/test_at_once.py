"""What is answered at once is what the routes answer, and whatever is not is left to them, with nothing done."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from targets import target

from kit.callers import Caller, Role
from models.signature import Arrays, Field, Prediction, Signature
from models.tensor_signature import AnySignature, TensorSignature, TensorSpec
from serving.api import at_once, inference, predict, tensor_answers
from serving.api.answering import LARGE
from serving.api.watching import Watch
from serving.domain.costs import Cost
from serving.domain.desired import Desired
from serving.replica.lanes import Queueing
from serving.replica.pace import SLICE
from serving.replica.residents import ON_LOOP, Here, Threads
from serving.replica.table import Answering, Live, Table

NAMES = ["a", "b"]
COLUMNS = Signature.of([Field(name, "number") for name in NAMES], "regression")
TENSORS = TensorSignature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)),))
CALLER = Caller("demo", Role.VIEWER, "ada", "gateway")
VALUES = np.array([[1, 2.5], [3, 4], [5, 6]], "<f4")
[INFER] = [route for route in inference.routes() if route.path == "/v2/models/{name}/infer"]


class Summing:
    """Adds up rows. It answers what is finite."""

    def __init__(self, signature: AnySignature) -> None:
        self.signature = signature

    def predict(self, arrays: Arrays) -> Prediction:
        matrix = np.concatenate(list(arrays.values()), axis=1)
        sums = matrix.sum(axis=1)
        if isinstance(self.signature, TensorSignature):
            return self.signature.prediction_of({"y": sums}, len(sums))
        return Prediction(sums, None)


class World:
    """A deployment named `late`."""

    def __init__(self, signature: AnySignature = COLUMNS, each: float = 0.0) -> None:
        self.threads = Threads(1, Queueing(10))
        self.table = Table()
        self.here = Here(Summing(signature), Cost(0, each), self.threads)
        self.one = Answering(target(), self.here)
        self.table.put(Live(Desired("demo", "late", uuid.uuid4(), 1, (target(),)), (self.one,)))

    def scope(self, headers: Mapping[bytes, bytes], **params: str) -> dict[str, Any]:
        parts = SimpleNamespace(table=self.table, watch=Watch())
        state = {"parts": parts, "caller": CALLER, "request_id": "r"}
        given = list(headers.items())
        return {"type": "http", "method": "POST", "headers": given, "path_params": params, "state": state}

    def now(self, body: bytes, headers: Mapping[bytes, bytes] | None = None, **params: str) -> Any:
        said, named = headers or {}, {"name": "late", **params}
        handle = at_once.inferred if tensor_answers.LENGTH.encode() in said or b"inputs" in body else at_once.predicted
        return handle(self.scope(said, **named), CALLER, named, said, body)

    async def later(self, body: bytes, headers: Mapping[bytes, bytes] | None = None, **params: str) -> Any:
        said, named = headers or {}, {"name": "late", **params}
        scope, messages = self.scope(said, **named), []  # type: tuple[dict[str, Any], list[Any]]
        is_v2 = tensor_answers.LENGTH.encode() in said or b"inputs" in body

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        await (INFER.endpoint if is_v2 else predict.predict)(scope, receive, send)
        head = b"".join(b"%b: %b\r\n" % it for it in messages[0]["headers"] if it[0] != b"content-length")
        return messages[0]["status"], (head, messages[1]["body"])


def rows_of(rows: Any, **more: Any) -> bytes:
    return json.dumps({"columns": NAMES, "rows": rows, **more}).encode()


def binary(parts: Mapping[str, np.ndarray[Any, Any]], **more: Any) -> tuple[bytes, dict[bytes, bytes]]:
    inputs = [
        {"name": name, "datatype": "FP32", "shape": it.shape, "parameters": {"binary_data_size": it.nbytes}}
        for name, it in parts.items()
    ]
    words = json.dumps({"inputs": inputs, **more}).encode()
    body = words + b"".join(it.tobytes() for it in parts.values())
    return body, {tensor_answers.LENGTH.encode(): b"%d" % len(words)}


@pytest.mark.parametrize("accepts", [b"", b"gzip"])
async def test_both_ways_answer_the_same(accepts: bytes) -> None:
    columns, tensors = World(), World(TENSORS)
    packs = {b"accept-encoding": accepts} if accepts else {}
    parts = {name: VALUES[:, [index]] for index, name in enumerate(NAMES)}
    many = np.repeat(VALUES, 100, axis=0)
    data = {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": VALUES.tolist()}
    asked: list[tuple[World, bytes, dict[bytes, bytes]]] = [
        (columns, rows_of(VALUES.tolist()), {}),
        (columns, json.dumps({"rows": [{"a": 1, "b": 2}]}).encode(), {b"content-type": b"text/plain"}),
        (columns, rows_of([[1, 2]]), {b"x-request-timeout": b"5"}),
        (columns, *binary(parts)),
        (columns, *binary(parts)),  # by its layout
        (columns, *binary({"b": parts["b"], "a": parts["a"]}, id="seven")),
        (columns, *binary({"b": parts["b"], "a": parts["a"]}, id="seven")),
        (tensors, json.dumps({"rows": VALUES.tolist()}).encode(), {}),
        (tensors, json.dumps({"inputs": [data]}).encode(), {}),
        (tensors, *binary({"x": VALUES}, parameters={"binary_data_output": True})),
        (tensors, *binary({"x": VALUES}, parameters={"binary_data_output": True})),
        (tensors, *binary({"x": many})),
    ]
    for world, body, headers in asked:
        await asyncio.sleep(0)  # another breath of the loop
        answer = world.now(body, headers | packs)
        assert answer is not None
        assert (200, answer) == await world.later(body, headers | packs)
        assert (200, answer) == await world.later(body, headers | packs, version="1") or "version" in str(headers)
    assert (columns.one.tally.requests, tensors.one.tally.requests) == (7 * 3, 5 * 3)


async def test_what_cannot_be_answered_well_is_left_to_the_routes() -> None:
    world, tensors = World(), World(TENSORS)
    words, length = binary({"x": VALUES})
    left: list[tuple[World, bytes, dict[bytes, bytes], int]] = [
        (world, rows_of([[1, "x"]]), {}, 422),
        (world, rows_of([[True, 1]]), {}, 422),
        (world, b'{"rows":[[1,2]],"rows":[[1,2]]}', {}, 400),
        (world, rows_of([[1, 2]]), {b"content-encoding": b"br"}, 415),
        (world, rows_of([[1, 2]]), {b"x-request-timeout": b"never"}, 400),
        (world, b"x", {b"content-type": b"application/x-npy"}, 400),
        (world, rows_of([[1, 2]]), {b"accept": b"application/vnd.apache.arrow.stream"}, 200),
        (world, rows_of([[1, 2]] * (LARGE // 8)), {}, 422),
        (tensors, words[:-1], length, 400),
        (tensors, words + b"x", length, 400),
        (tensors, words, {tensor_answers.LENGTH.encode(): b"+3"}, 400),
        (tensors, words, {tensor_answers.LENGTH.encode(): b"%d" % (len(words) + 1)}, 400),
        (tensors, VALUES.tobytes(), {tensor_answers.LENGTH.encode(): b"0"}, 200),
        (tensors, words.replace(b'"x"', b'"z"'), length, 400),
    ]
    tensors.now(words, length)  # its words are known from now on
    for of, body, headers, status in left:
        before = of.one.tally.requests
        assert of.now(body, headers) is None, body[:50]
        assert of.one.tally.requests == before
        assert (await of.later(body, headers))[0] == status, body[:50]


async def test_nobody_is_answered_out_of_turn_or_by_somebody_else() -> None:
    body = rows_of([[1, 2]])
    world = World()
    assert world.now(body, name="other") is None
    assert world.now(body, version="2") is None
    assert world.now(body, version="1") is not None
    pace = world.threads.pace
    assert pace.take()
    pace._began = (pace._began or 0.0) - 2 * SLICE  # this breath has taken long
    assert world.now(body) is None
    assert not pace.take()


async def test_rows_of_a_model_that_takes_its_time_are_not_read_twice() -> None:
    world = World(each=ON_LOOP / 2)
    body, scope = rows_of([[1, 2]] * 3), None
    for rows, is_quick in ((1, True), (3, False)):
        body = rows_of([[1, 2]] * rows)
        scope = world.scope({}, name="late")
        answer = at_once.predicted(scope, CALLER, {"name": "late"}, {}, body)
        assert (answer is not None) == is_quick
    assert scope is not None
    one, arrays = scope["state"]["read"]
    assert one is world.one
    assert COLUMNS.rows_in(arrays) == 3
    assert World(each=2 * ON_LOOP).now(body) is None
