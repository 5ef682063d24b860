"""Run by test_triton.py with another Python, which has tritonclient: asks a deployment both ways, JSON and binary."""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def main() -> None:
    """An order on stdin, the answers on stdout."""
    asked = json.load(sys.stdin)
    client = triton.InferenceServerClient(asked["netloc"])
    model, headers = asked["model"], {"Authorization": asked["authorization"]}
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(model, headers=headers)
    assert client.is_model_ready(model, "1", headers=headers)
    described = client.get_model_metadata(model, headers=headers)["inputs"]
    answers = []
    for binary in (True, False):
        inputs = inputs_of(asked, described, binary)
        answer = client.infer(model, inputs, headers=dict(headers), request_id="seven")  # it writes into them
        said = answer.get_response()
        assert said["id"] == "seven", said
        answers.append({out["name"]: as_texts(answer, out["name"]) for out in said["outputs"]})
    inputs = inputs_of(asked, described, True)
    for packed in (
        {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"},
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "gzip"},
    ):
        answer = client.infer(model, inputs, model_version="1", headers=dict(headers), **packed)
        assert {name: as_texts(answer, name) for name in answers[0]} == answers[0]
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("score", binary_data=binary)]
        answer = client.infer(model, inputs, outputs=wanted, headers=dict(headers))
        assert [out["name"] for out in answer.get_response()["outputs"]] == ["score"]
        assert as_texts(answer, "score") == answers[0]["score"]
    residency(client, model, headers, inputs)
    json.dump(
        {"answers": answers, "about": about(client, model, headers), "refused": refused(client, headers)}, sys.stdout
    )


def residency(client: Any, model: str, headers: dict[str, str], inputs: list[Any]) -> None:
    """Let the model go from memory and bring it back, by asking for that and by asking it."""

    def states() -> list[str]:
        listed = client.get_model_repository_index(headers=headers)
        return [it["state"] for it in listed if it["name"] == model]

    for _ in range(2):
        client.unload_model(model, headers=headers)
        assert states() == ["UNAVAILABLE"], states()
    client.load_model(model, headers=headers)
    assert states() == ["READY"], states()
    client.unload_model(model, headers=headers)
    assert client.infer(model, inputs, headers=dict(headers)).as_numpy("score").size > 0
    assert states() == ["READY"], states()


def about(client: Any, model: str, headers: dict[str, str]) -> dict[str, Any]:
    """What the server says of itself and of the model, in every way that the client can ask."""
    return {
        "server": client.get_server_metadata(headers=headers),
        "model": client.get_model_metadata(model, "1", headers=headers),
        "config": client.get_model_config(model, headers=headers),
        "config of 1": client.get_model_config(model, "1", headers=headers),
        "stats": client.get_inference_statistics(model, headers=headers),
        "stats of 1": client.get_inference_statistics(model, "1", headers=headers),
        "all stats": client.get_inference_statistics(headers=headers),
        "index": client.get_model_repository_index(headers=headers),
    }


def refused(client: Any, headers: dict[str, str]) -> dict[str, list[str]]:
    """What the client makes of our refusals: status and words."""
    tried: dict[str, Callable[[], Any]] = {
        "nobody": lambda: client.get_model_metadata("nobody", headers=headers),
        "no inputs": lambda: client.infer("nobody", [], headers=dict(headers)),
        "tracing": lambda: client.get_trace_settings(headers=headers),
        "shared memory": lambda: client.get_system_shared_memory_status(headers=headers),
    }
    found = {}
    for name, ask in tried.items():
        try:
            ask()
        except InferenceServerException as exc:
            found[name] = [str(exc.status()), exc.message()]
    return found


def inputs_of(asked: dict[str, Any], described: list[dict[str, Any]], binary: bool) -> list[Any]:
    inputs = []
    for tensor in described:
        array = array_of(asked["columns"][tensor["name"]], tensor["datatype"])
        if not binary and array.dtype != np.object_:
            array = np.nan_to_num(array, nan=asked["instead"])  # JSON has no NaN
        given = triton.InferInput(tensor["name"], list(array.shape), tensor["datatype"])
        given.set_data_from_numpy(array, binary_data=binary)
        inputs.append(given)
    return inputs


def as_texts(answer: Any, name: str) -> Any:
    return answer.as_numpy(name).astype(str).tolist()


def array_of(values: list[Any], kind: str) -> Any:
    """[rows, 1], as the model says that it takes it; what is missing is NaN."""
    if kind == "BYTES":
        return np.array([[value.encode()] for value in values], dtype=np.object_)
    return np.array([[np.nan if value is None else value] for value in values], dtype=triton_to_np_dtype(kind))


if __name__ == "__main__":
    main()
