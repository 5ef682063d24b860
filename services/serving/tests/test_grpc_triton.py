"""The inference protocol's own client over gRPC, with the messages that it was made with."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_at_work import Caller
from servings_at_work import Serving
from test_api_inference import INFER, as_json, outputs, tensors
from test_grpc import at as at
from worlds import rows

from serving.grpc.schema import described

ROOT = Path(__file__).parents[3]


async def run(order: dict[str, Any]) -> Any:
    """What the client's program answers. Where its environment is missing the test is left out, and in CI it fails."""
    python = ROOT / ".cache" / "triton" / "bin" / "python"
    if not python.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{python} is missing: `make .cache/triton` makes it")
        pytest.skip(f"{python} is missing: `make test` makes it")
    program = Path(__file__).with_name("triton_grpc_client.py")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(python, program, stdin=pipe, stdout=pipe, stderr=pipe)
    said, wrong = await asyncio.wait_for(process.communicate(json.dumps(order).encode()), 120)
    assert process.returncode == 0, wrong.decode()
    return json.loads(said)


async def test_tritonclient_gets_what_rest_answers(at: tuple[Serving, Caller]) -> None:
    serving, caller = at
    asked = rows(20, seed=5)
    said = outputs(await serving.http.post(INFER, json=as_json(asked)))
    given = [
        {
            "name": name,
            "datatype": datatype,
            "shape": list(array.shape),
            "data": [None if it != it else it for it in array.ravel().tolist()],
        }
        for name, (datatype, array) in tensors(asked).items()
    ]
    found = await run({"url": caller.address, "model": "late", "headers": caller.headers, "tensors": given})
    assert len(found["answers"]) == 3
    for answer in found["answers"]:
        assert {name: np.ravel(values).tolist() for name, values in answer.items()} == said
    about = found["about"]
    assert about["server"]["name"] == "trainyard"
    assert (about["model"]["name"], about["model"]["versions"]) == ("late", ["1"])
    assert about["config"]["config"]["max_batch_size"] == 10_000
    assert [it["data_type"] for it in about["config"]["config"]["output"]] == ["TYPE_BOOL", "TYPE_FP64", "TYPE_FP64"]
    assert about["stats"]["model_stats"][0]["version"] == "1"
    assert about["all stats"] == about["stats"]
    codes = {name: status.removeprefix("StatusCode.") for name, (status, _) in found["refused"].items()}
    assert codes == {
        "nobody": "NOT_FOUND",
        "no inputs": "INVALID_ARGUMENT",
        "no token": "UNAUTHENTICATED",
        "tracing": "UNIMPLEMENTED",
        "shared memory": "UNIMPLEMENTED",
    }
    assert "nobody" in found["refused"]["nobody"][1]
    _is_part_of(found["schema"])


def _is_part_of(theirs: dict[str, Any]) -> None:
    """Every message, field, number and call of ours is one of theirs."""
    file = described()
    [service] = file.service
    ours = {it.name: [f".inference.{it.input_type}", f".inference.{it.output_type}"] for it in service.method}
    assert ours.items() <= theirs[service.name].items()
    for enum in file.enum_type:
        assert {it.name: it.number for it in enum.value} == theirs[enum.name]

    def check(message: Any, within: str) -> None:
        name = within + message.name
        for field in message.field:
            number, kind, label = theirs[name][field.name]
            assert (field.number, field.label) == (number, label), (name, field.name)
            assert field.type == kind or (field.type_name and kind in (11, 14)), (name, field.name)
        for nested in message.nested_type:
            check(nested, f"{name}.")

    for message in file.message_type:
        check(message, "")
