"""Run by test_triton.py with another Python, which has tritonclient: asks a deployment both ways, JSON and binary."""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import triton_to_np_dtype


def main() -> None:
    """An order on stdin, the answers on stdout."""
    asked = json.load(sys.stdin)
    client = triton.InferenceServerClient(asked["netloc"])
    headers = {"Authorization": asked["authorization"]}
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(asked["model"], headers=headers)
    described = client.get_model_metadata(asked["model"], headers=headers)["inputs"]
    answers = []
    for binary in (True, False):
        inputs = []
        for tensor in described:
            array = array_of(asked["columns"][tensor["name"]], tensor["datatype"])
            if not binary and array.dtype != np.object_:
                array = np.nan_to_num(array, nan=asked["instead"])  # JSON has no NaN
            given = triton.InferInput(tensor["name"], list(array.shape), tensor["datatype"])
            given.set_data_from_numpy(array, binary_data=binary)
            inputs.append(given)
        answer = client.infer(asked["model"], inputs, headers=dict(headers), request_id="seven")  # it writes into them
        said = answer.get_response()
        assert said["id"] == "seven", said
        answers.append({out["name"]: answer.as_numpy(out["name"]).astype(str).tolist() for out in said["outputs"]})
    json.dump(answers, sys.stdout)


def array_of(values: list[Any], kind: str) -> Any:
    """[rows, 1], as the model says that it takes it; what is missing is NaN."""
    if kind == "BYTES":
        return np.array([[value.encode()] for value in values], dtype=np.object_)
    return np.array([[np.nan if value is None else value] for value in values], dtype=triton_to_np_dtype(kind))


if __name__ == "__main__":
    main()
