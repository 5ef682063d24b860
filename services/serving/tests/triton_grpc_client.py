"""Run by test_grpc_triton.py with another Python, which has tritonclient with gRPC: asks in every way that it can."""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def main() -> None:
    """An order on stdin, the answers on stdout."""
    asked = json.load(sys.stdin)
    client = triton.InferenceServerClient(asked["url"], channel_args=[("grpc.enable_http_proxy", 0)])
    model, headers = asked["model"], asked["headers"]
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(model, headers=headers)
    assert client.is_model_ready(model, "1", headers=headers)
    inputs = inputs_of(asked["tensors"])
    answers = []
    for more in (
        {"request_id": "seven"},
        {"model_version": "1", "compression_algorithm": "gzip"},
        {"client_timeout": 20.0, "compression_algorithm": "deflate"},
    ):
        answer = client.infer(model, inputs, headers=headers, **more)
        answers.append({it.name: answer.as_numpy(it.name).tolist() for it in answer.get_response().outputs})
    assert client.infer(model, inputs, headers=headers, request_id="seven").get_response().id == "seven"
    some = client.infer(model, inputs, headers=headers, outputs=[triton.InferRequestedOutput("score")])
    assert [it.name for it in some.get_response().outputs] == ["score"]
    residency(client, model, headers, inputs)
    about = about_of(client, model, headers)
    json.dump({"answers": answers, "about": about, "refused": refused(client, headers), "schema": schema()}, sys.stdout)


def residency(client: Any, model: str, headers: dict[str, str], inputs: list[Any]) -> None:
    def states() -> list[str]:
        return [it.state for it in client.get_model_repository_index(headers=headers).models if it.name == model]

    client.unload_model(model, headers=headers)
    assert states() == ["UNAVAILABLE"], states()
    client.load_model(model, headers=headers)
    assert states() == ["READY"], states()
    client.unload_model(model, headers=headers)
    assert client.infer(model, inputs, headers=headers).as_numpy("score").size > 0


def about_of(client: Any, model: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "server": client.get_server_metadata(headers=headers, as_json=True),
        "model": client.get_model_metadata(model, "1", headers=headers, as_json=True),
        "config": client.get_model_config(model, headers=headers, as_json=True),
        "stats": client.get_inference_statistics(model, headers=headers, as_json=True),
        "all stats": client.get_inference_statistics(headers=headers, as_json=True),
    }


def refused(client: Any, headers: dict[str, str]) -> dict[str, list[str]]:
    """What the client makes of our refusals: status and words."""
    tried: dict[str, Callable[[], Any]] = {
        "nobody": lambda: client.get_model_metadata("nobody", headers=headers),
        "no inputs": lambda: client.infer("late", [], headers=headers),
        "no token": lambda: client.is_server_live(),
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


def inputs_of(tensors: list[dict[str, Any]]) -> list[Any]:
    inputs = []
    for tensor in tensors:
        texts = tensor["datatype"] == "BYTES"
        values = [it.encode() if texts else np.nan if it is None else it for it in tensor["data"]]
        dtype = triton_to_np_dtype(tensor["datatype"])
        given = triton.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        given.set_data_from_numpy(np.array(values, dtype).reshape(tensor["shape"]))
        inputs.append(given)
    return inputs


def schema() -> dict[str, Any]:
    """Its messages: of each field the number, type and label; of each call what goes in and comes out."""
    found: dict[str, Any] = {}
    for module in (service_pb2, model_config_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            _add(found, message, "")
        for enum in file.enum_type:
            found[enum.name] = {it.name: it.number for it in enum.value}
        for service in file.service:
            found[service.name] = {it.name: [it.input_type, it.output_type] for it in service.method}
    return found


def _add(found: dict[str, Any], message: Any, within: str) -> None:
    name = within + message.name
    found[name] = {it.name: [it.number, it.type, it.label] for it in message.field}
    for nested in message.nested_type:
        _add(found, nested, f"{name}.")


if __name__ == "__main__":
    main()
