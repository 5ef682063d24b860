"""The Open Inference Protocol, with bodies made by hand as its clients make them."""

import gzip
import json
import struct
import time
import zlib
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


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bodies_and_answers_are_packed_and_the_length_of_the_json_is_that_before(
    late: Serving, encoding: str
) -> None:
    asked = rows(200)
    body, headers = as_bytes(asked)
    plain = await late.http.post(INFER, content=body, headers={**headers, "accept-encoding": "identity"})
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    packed = {**headers, "content-encoding": encoding, "accept-encoding": encoding}
    answer = await late.http.post(INFER, content=pack(body), headers=packed)
    assert answer.headers["content-encoding"] == encoding
    assert int(answer.headers["content-length"]) < len(plain.content)
    assert outputs(answer) == outputs(plain)
    few, headers = as_bytes(rows(1))
    answer = await late.http.post(INFER, content=few, headers={**headers, "accept-encoding": encoding})
    assert "content-encoding" not in answer.headers


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
        assert server["name"] == "trainyard"
        assert server["extensions"] == [
            "binary_tensor_data",
            "model_configuration",
            "model_repository",
            "statistics",
        ]
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


async def test_how_a_model_is_set_up_is_told_as_triton_does(late: Serving) -> None:
    for path in ("/v2/models/late/config", "/v2/models/late/versions/1/config"):
        found = (await late.http.get(path)).json()
        assert (found["name"], found["platform"], found["backend"]) == ("late", "trainyard_onnx", "trainyard")
        assert found["max_batch_size"] == 10_000
        assert found["version_policy"] == {"specific": {"versions": [1]}}
        inputs = {it["name"]: (it["data_type"], it["dims"]) for it in found["input"]}
        assert inputs["distance"] == ("TYPE_FP32", [1])
        assert inputs["carrier"] == ("TYPE_STRING", [1])
        wide = {it["name"]: (it["data_type"], it["dims"]) for it in found["output"]}
        assert wide == {
            "label": ("TYPE_BOOL", []),
            "score": ("TYPE_FP64", []),
            "probabilities": ("TYPE_FP64", [2]),
        }


PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


async def test_what_was_answered_is_counted_for_each_version(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained())
    registry.register("late", trained(seed=1))
    await serving.deploy("late", [{"model": "late@1", "weight": 1}, {"model": "late@2", "weight": 1}])
    await serving.deploy("alone", "late@1")

    async def stats(path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await serving.http.get(path)).raise_for_status().json()["model_stats"]
        return found

    [first] = await stats("/v2/models/late/versions/1/stats")
    assert (first["inference_count"], first["last_inference"]) == (0, 0)
    before = time.time() * 1000
    for count in (3, 4):
        await serving.http.post("/v2/models/late/versions/1/infer", json=as_json(rows(count)))
    first, second = await stats("/v2/models/late/stats")
    assert [(it["name"], it["version"]) for it in (first, second)] == [("late", "1"), ("late", "2")]
    assert (first["inference_count"], second["inference_count"]) == (7, 0)
    assert first["inference_stats"]["success"]["count"] == 2
    assert first["inference_stats"]["success"]["ns"] > 1000
    assert first["inference_stats"]["fail"] == {"count": 0, "ns": 0}
    parts = {name: it for name, it in first["inference_stats"].items() if name not in {"success", "fail"}}
    assert {name: it["count"] for name, it in parts.items()} == dict.fromkeys(PARTS, 2)
    assert all(parts[name]["ns"] > 0 for name in PARTS[1:])
    assert sum(it["ns"] for it in parts.values()) <= first["inference_stats"]["success"]["ns"]
    assert first["execution_count"] == 2
    assert [(it["batch_size"], it["compute_infer"]["count"]) for it in first["batch_stats"]] == [(3, 1), (4, 1)]
    assert sum(it["compute_infer"]["ns"] for it in first["batch_stats"]) == pytest.approx(
        parts["compute_infer"]["ns"], abs=2
    )
    assert first["last_inference"] >= int(before)
    everything = await stats("/v2/models/stats")
    assert [(it["name"], it["version"]) for it in everything] == [("alone", "1"), ("late", "1"), ("late", "2")]
    other = await serving.http.get("/v2/models/stats", headers=serving.headers(project="other"))
    assert other.json() == {"model_stats": []}


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
        ("GET", "/v2/models/nobody/config"),
        ("GET", "/v2/models/late/versions/2/stats"),
        ("GET", "/v2/models/late/trace/setting"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/models/late"),
        ("DELETE", "/v2"),
    ):
        answer = await late.http.request(method, path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"]), path
    wrong = as_json(rows(2))
    wrong["inputs"][0]["shape"] = [2, 1, 1]
    assert (await late.http.post(INFER, json=wrong)).status_code == 400
    named = as_json(rows(2), outputs=[{"name": "nothing"}])
    assert "no output 'nothing'" in (await late.http.post(INFER, json=named)).json()["error"]


async def test_the_repository_lists_what_answers_and_what_does_not_and_why(
    serving: Serving, registry: Registry
) -> None:
    registry.register("late", trained())
    registry.register("late", trained(seed=1))
    await serving.deploy("late", [{"model": "late@1", "weight": 1}, {"model": "late@2", "weight": 1}])
    registry.register("broken", trained(seed=2))
    for digest in {it["digest"] for it in registry.versions[("demo", "broken")][1]["formats"]}:
        registry.contents[digest] = b"something else"
    await serving.put("broken", "broken")
    await serving.settled("broken", "failed")

    async def index(content: bytes = b"", **of: str) -> Any:
        answer = await serving.http.post("/v2/repository/index", content=content, headers=serving.headers(**of))
        assert answer.status_code == 200, answer.text
        return answer.json()

    broken, *ready = await index()
    assert ready == [{"name": "late", "version": it, "state": "READY", "reason": ""} for it in ("1", "2")]
    assert (broken["name"], broken["version"], broken["state"]) == ("broken", "1", "UNAVAILABLE")
    assert "model.onnx of broken@1 is sha256:" in broken["reason"]
    assert await index(b'{"ready": true}') == ready
    assert await index(b'{"ready": false}') == [broken, *ready]
    assert await index(project="other") == []
    for wrong in (b"[]", b'{"ready": 1}', b"{"):
        answer = await serving.http.post("/v2/repository/index", content=wrong)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])
