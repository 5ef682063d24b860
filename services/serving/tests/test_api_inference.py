"""The Open Inference Protocol, with bodies made by hand as its clients make them."""

import gzip
import json
import struct
from typing import Any

import httpx2
import numpy as np
import pytest
from registries import Registry
from servings_at_work import Serving
from worlds import LOGISTIC, REGRESSOR, rows, trained

from models.rows import arrays_of

INFER = "/v2/models/late/infer"
LENGTH = "inference-header-content-length"


@pytest.fixture
async def late(serving: Serving, registry: Registry) -> Serving:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    return serving


def tensors(asked: list[dict[str, Any]]) -> dict[str, tuple[str, np.ndarray[Any, Any]]]:
    """As a client makes them of the metadata."""
    arrays = arrays_of(trained().signature, {"rows": asked})
    kinds = {"seats": ("INT64", np.int64), "cargo": ("BOOL", np.bool_)}
    found = {}
    for name, array in arrays.items():
        kind, dtype = kinds.get(name, ({"f": "FP32", "i": "INT64", "O": "BYTES"}[array.dtype.kind], array.dtype))
        found[name] = (kind, array.astype(dtype))
    return found


def as_json(asked: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    inputs = []
    for name, (datatype, array) in tensors(asked).items():
        data = [None if value != value else value for value in array[:, 0].tolist()]
        inputs.append({"name": name, "datatype": datatype, "shape": list(array.shape), "data": data})
    return {"inputs": inputs, **more}


def as_bytes(asked: list[dict[str, Any]], **more: Any) -> tuple[bytes, dict[str, str]]:
    inputs, parts = [], []
    for name, (datatype, array) in tensors(asked).items():
        raw = array.tobytes()
        if datatype == "BYTES":
            texts = [str(value).encode() for value in array[:, 0]]
            raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        described = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        inputs.append({**described, "parameters": {"binary_data_size": len(raw)}})
        parts.append(raw)
    text = json.dumps({"inputs": inputs, **more}).encode()
    return b"".join([text, *parts]), {LENGTH: str(len(text))}


def outputs(answer: httpx2.Response) -> dict[str, Any]:
    """Each as a flat list."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    document, behind = json.loads(answer.content[:length]), answer.content[length:]
    found: dict[str, Any] = {}
    for output in document["outputs"]:
        if "data" in output:
            found[output["name"]] = output["data"]
            continue
        size = output["parameters"]["binary_data_size"]
        dtype = {"FP64": "<f8", "BOOL": "?", "INT64": "<i8"}[output["datatype"]]
        found[output["name"]] = np.frombuffer(behind[:size], dtype).tolist()
        behind = behind[size:]
    assert behind == b""
    return found


async def test_json_and_bytes_get_what_rows_get_to_the_last_bit(late: Serving) -> None:
    asked = rows(40, seed=3)
    said = (await late.predict("late", asked)).json()["predictions"]
    plain = outputs(await late.http.post(INFER, json=as_json(asked)))
    body, headers = as_bytes(asked)
    packed = outputs(await late.http.post(INFER, content=body, headers=headers))
    assert plain == packed
    assert plain["label"] == [it["label"] for it in said]
    assert plain["score"] == [it["score"] for it in said]
    assert np.array(plain["probabilities"]).reshape(-1, 2)[:, 1].tolist() == plain["score"]


async def test_outputs_come_as_they_are_asked_for(late: Serving) -> None:
    asked = rows(3)
    everything = outputs(await late.http.post(INFER, json=as_json(asked)))
    body, headers = as_bytes(asked, id="seven", parameters={"binary_data_output": True})
    answer = await late.http.post(INFER, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert outputs(answer) == everything
    head = json.loads(answer.content[: int(answer.headers[LENGTH])])
    assert (head["model_name"], head["model_version"], head["id"]) == ("late", "1", "seven")
    assert head["parameters"] == {"revision": 1}
    one = as_json(asked, outputs=[{"name": "score", "parameters": {"binary_data": True}}])
    assert outputs(await late.http.post(INFER, json=one)) == {"score": everything["score"]}
    packed = {**headers, "content-encoding": "gzip"}
    assert outputs(await late.http.post(INFER, content=gzip.compress(body), headers=packed)) == everything


async def test_a_version_is_asked_by_its_number(late: Serving) -> None:
    path = "/v2/models/late/versions/{}/infer"
    assert (await late.http.post(path.format(1), json=as_json(rows(1)))).status_code == 200
    missing = await late.http.post(path.format(2), json=as_json(rows(1)))
    assert (missing.status_code, missing.json()) == (404, {"error": "Deployment late does not serve version 2."})


async def test_a_body_of_one_tensor_needs_no_json(late: Serving) -> None:
    answer = await late.http.post(INFER, content=b"1234", headers={LENGTH: "0"})
    assert answer.status_code == 400
    assert "one input" in answer.json()["error"]


async def test_the_server_and_its_models_are_described(late: Serving) -> None:
    for path in ("/v2", "/v2/"):
        server = (await late.http.get(path)).json()
        assert (server["name"], server["extensions"]) == ("trainyard", ["binary_tensor_data"])
    assert (await late.http.get("/v2/health/live")).json() == {"live": True}
    assert (await late.http.get("/v2/health/ready")).json() == {"live": True, "ready": True}
    for path in ("/v2/models/late", "/v2/models/late/versions/1"):
        assert (await late.http.get(f"{path}/ready")).json() == {"name": "late", "ready": True}
        found = (await late.http.get(path)).json()
        assert (found["name"], found["versions"], found["platform"]) == ("late", ["1"], "trainyard_onnx")
    assert {it["name"]: it["datatype"] for it in found["inputs"]} == {
        name: datatype for name, (datatype, _) in tensors(rows(1)).items()
    }
    assert found["inputs"][0]["shape"] == [-1, 1]
    assert [(it["name"], it["shape"]) for it in found["outputs"]] == [
        *(("label", [-1]), ("score", [-1]), ("probabilities", [-1, 2]))
    ]


async def test_a_regression_answers_a_value(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained(REGRESSOR))
    await serving.deploy("late", "late")
    said = (await serving.predict("late", rows(4))).json()["predictions"]
    assert outputs(await serving.http.post(INFER, json=as_json(rows(4)))) == {"value": [it["value"] for it in said]}


async def test_texts_are_answered(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained(LOGISTIC, classes=("early", "late")))
    await serving.deploy("late", "late")
    said = (await serving.predict("late", rows(4))).json()["predictions"]
    assert outputs(await serving.http.post(INFER, json=as_json(rows(4))))["label"] == [it["label"] for it in said]


@pytest.mark.parametrize(
    ("content", "headers", "status", "said"),
    [
        (b"", {}, 400, "not valid JSON"),
        (b'{"inputs": [NaN]}', {}, 400, "not valid JSON"),
        (b"{}", {}, 400, "#/inputs must be an array of tensors"),
        (b'{"inputs": []}', {}, 400, "'distance' is missing"),
        (b"{}", {LENGTH: "x"}, 400, "Inference-Header-Content-Length"),
        (b"{}", {LENGTH: "3"}, 400, "Inference-Header-Content-Length"),
        (b"{}", {"content-encoding": "br"}, 415, "gzip"),
        (b"{}", {"content-encoding": "gzip"}, 400, "not packed"),
        (gzip.compress(b"{}", mtime=0)[:-1], {"content-encoding": "gzip"}, 400, "not one whole"),
        (gzip.compress(b" " * (5 << 20)), {"content-encoding": "gzip"}, 413, "at most"),
        (b" " * (5 << 20), {}, 413, "at most"),
    ],
)
async def test_errors_are_in_the_protocol_s_shape(
    late: Serving, content: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = await late.http.post(INFER, content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


async def test_what_is_not_there_is_said_in_the_protocol_s_shape(late: Serving) -> None:
    for method, path in (
        ("GET", "/v2/models/nobody"),
        ("GET", "/v2/models/nobody/ready"),
        ("POST", "/v2/models/nobody/infer"),
        ("GET", "/v2/models/late/config"),
        ("POST", "/v2/repository/index"),
        ("DELETE", "/v2"),
    ):
        answer = await late.http.request(method, path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"]), path
    wrong = as_json(rows(2))
    wrong["inputs"][0]["shape"] = [2, 1, 1]
    assert (await late.http.post(INFER, json=wrong)).status_code == 400
    named = as_json(rows(2), outputs=[{"name": "nothing"}])
    assert "no output 'nothing'" in (await late.http.post(INFER, json=named)).json()["error"]
