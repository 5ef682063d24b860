"""A model of tensors by every way in: each with its own shape, and all with the same answers."""

import io
import json
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper
from registries import Registry
from servings_at_work import Serving
from test_api_deployments import problem
from worlds import Trained

from models.tensor_signature import TensorSignature, TensorSpec
from serving.domain import arrow, npy

WEIGHTS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
SIGNATURE = TensorSignature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 2)),))
ASKED = [[1.0, 0.0, 0.5], [0.0, 2.0, -1.0]]
SAID = (np.array(ASKED, np.float32) @ WEIGHTS).tolist()
PREDICT, INFER = "/v1/deployments/linear/predict", "/v2/models/linear/infer"
LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Linear:
    """y = x W, as the registry keeps it."""

    files: dict[str, bytes]
    signature: TensorSignature = SIGNATURE
    example: list[dict[str, Any]] = field(default_factory=list)


def linear() -> Trained:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return cast(Trained, Linear({"onnx": model.SerializeToString()}))


@pytest.fixture
async def served(serving: Serving, registry: Registry) -> Serving:
    registry.register("linear", linear())
    await serving.deploy("linear", "linear")
    return serving


def found(answer: httpx2.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_way_in_gets_the_same_answers(served: Serving) -> None:
    http = served.http
    objects = [{"x": row} for row in ASKED]
    for asked in (ASKED, objects):
        said = found(await http.post(PREDICT, json={"rows": asked}))
        assert (said["predictions"], said["version"]) == ([{"y": row} for row in SAID], 1)
        assert found(await http.post("/v1/models/linear:predict", json={"instances": asked}))["predictions"] == SAID
    for form in ({"inputs": {"x": ASKED}}, {"instances": ASKED}, {"dataframe_records": objects}):
        assert found(await http.post("/v1/deployments/linear/invocations", json=form))["predictions"] == SAID
    body = io.BytesIO()
    np.save(body, np.array(ASKED, np.float32))
    answer = await http.post(PREDICT, content=body.getvalue(), headers={"content-type": npy.MEDIA_TYPE})
    assert [it["y"] for it in found(answer)["predictions"]] == SAID


async def test_arrow_has_lists_of_a_fixed_size(served: Serving) -> None:
    table = pa.table({"x": pa.array(ASKED, pa.list_(pa.float32(), 3))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = {"content-type": arrow.MEDIA_TYPE, "accept": arrow.MEDIA_TYPE}
    answer = await served.http.post(PREDICT, content=sink.getvalue().to_pybytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    said = pa.ipc.open_stream(answer.content).read_all()
    assert said.to_pydict() == {"y": SAID}
    assert said.schema.field("y").type == pa.list_(pa.field("item", pa.float32(), nullable=False), 2)


async def test_the_protocol_speaks_of_its_own_tensors(served: Serving) -> None:
    http = served.http
    described = found(await http.get("/v2/models/linear"))
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert described["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
    config = found(await http.get("/v2/models/linear/config"))
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["max_batch_size"] == 10_000
    raw = np.array(ASKED, np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3]}
    [said] = found(await http.post(INFER, json={"inputs": [{**tensor, "data": ASKED}]}))["outputs"]
    assert (said["datatype"], said["shape"]) == ("FP32", [2, 2])
    assert np.array(said["data"]).reshape(2, 2).tolist() == SAID
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    [said] = found(await http.post(INFER, content=head + raw, headers={LENGTH: str(len(head))}))["outputs"]
    assert np.array(said["data"]).reshape(2, 2).tolist() == SAID
    answer = await http.post(INFER, content=raw, headers={LENGTH: "0"})
    length = int(answer.headers[LENGTH])
    assert np.frombuffer(answer.content[length:], "<f4").reshape(2, 2).tolist() == SAID


async def test_another_type_or_shape_is_refused_by_every_way(served: Serving) -> None:
    http = served.http
    for rows in ([[1.0, 2.0]], [["a", "b", "c"]], [[[1.0, 2.0, 3.0]]], [{"z": [1.0, 2.0, 3.0]}]):
        problem(await http.post(PREDICT, json={"rows": rows}), 422, "tensors-invalid")
        answer = await http.post("/v1/models/linear:predict", json={"instances": rows})
        assert (answer.status_code, list(answer.json())) == (400, ["error"])
        assert "#/instances" in answer.json()["error"]
    body = io.BytesIO()
    np.save(body, np.array(ASKED))
    answer = await http.post(PREDICT, content=body.getvalue(), headers={"content-type": npy.MEDIA_TYPE})
    assert "FP32" in problem(answer, 422, "tensors-invalid")["errors"][0]["detail"]
    tensor = {"name": "x", "datatype": "FP64", "shape": [2, 3], "data": ASKED}
    answer = await http.post(INFER, json={"inputs": [tensor]})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    csv = await http.post("/v1/deployments/linear/invocations", content=b"x\n1\n", headers={"content-type": "text/csv"})
    assert (csv.status_code, csv.json()["error_code"]) == (400, "BAD_REQUEST")
