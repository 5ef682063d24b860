"""Run by test_kserve.py with another Python, which has kserve: asks a deployment by both of its protocols."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest, InferResponse
from kserve.inference_client import InferenceRESTClient, RESTConfig, httpx
from kserve.protocol.infer_type import RequestedOutput

DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


def main() -> None:
    """An order on stdin, the answers on stdout."""
    json.dump(asyncio.run(answers(json.load(sys.stdin))), sys.stdout)


async def answers(asked: dict[str, Any]) -> dict[str, Any]:
    url, model, headers = asked["url"], asked["model"], {"Authorization": asked["authorization"]}
    second = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    first = InferenceRESTClient(RESTConfig(protocol="v1", timeout=30))
    found: dict[str, Any] = {
        "live": await second.is_server_live(url, headers=headers),
        "ready": await second.is_server_ready(url, headers=headers),
        "model": await second.is_model_ready(url, model, headers=headers),
        "other": await second.is_model_ready(url, "nobody", headers=headers),
    }
    for name, binary in (("binary", True), ("text", False)):
        request = InferRequest(
            model_name=model,
            infer_inputs=[tensor(it, asked["columns"][it["name"]], binary) for it in asked["inputs"]],
            request_id="seven",
            parameters={"binary_data_output": binary},
        )
        answer = await second.infer(url, request, model_name=model, headers=dict(headers))
        found[name] = outputs(answer)
    # Not its own tensors only: which outputs are wanted, and each in its own way.
    request = InferRequest(
        model_name=model,
        infer_inputs=[tensor(it, asked["columns"][it["name"]], True) for it in asked["inputs"]],
        request_outputs=[
            RequestedOutput("score", {"binary_data": True}),
            RequestedOutput("label", {"binary_data": False}),
        ],
    )
    found["chosen"] = outputs(await second.infer(url, request, model_name=model, headers=dict(headers)))
    wrong = InferRequest(model_name=model, infer_inputs=[])
    found["wrong"] = await said(second.infer(url, wrong, model_name=model, headers=dict(headers)))
    found["nobody"] = await said(second.infer(url, wrong, model_name="nobody", headers=dict(headers)))
    body = {"instances": asked["rows"]}
    found["v1"] = (await first.infer(url, body, model_name=model, headers=dict(headers)))["predictions"]
    found["v1 wrong"] = await said(first.infer(url, {"instances": [{}]}, model_name=model, headers=dict(headers)))
    return found


def tensor(described: dict[str, Any], values: list[Any], binary: bool) -> InferInput:
    """[rows, 1], as the metadata say that the model takes it."""
    kind = described["datatype"]
    if kind == "BYTES":
        array = np.array([[value.encode()] for value in values], dtype=np.object_)
    else:
        array = np.array([[value] for value in values], dtype=DTYPES[kind])
    given = InferInput(described["name"], list(array.shape), kind)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def outputs(answer: InferResponse) -> dict[str, Any]:
    return {it.name: it.as_numpy().astype(str).ravel().tolist() for it in answer.outputs} | {"id": answer.id}


async def said(asking: Any) -> Any:
    """What is answered, or what the client makes of a refusal."""
    try:
        return await asking
    except httpx.HTTPStatusError as exc:
        return [exc.response.status_code, str(exc)]


if __name__ == "__main__":
    main()
