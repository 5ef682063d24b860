"""The Open Inference Protocol over gRPC, asked by a plain channel: what `/v2/…` answers, and nothing else."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from grpc_at_work import Caller
from processes import free_port
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from test_api_inference import INFER, as_json, outputs, tensors
from worlds import rows, trained

from kit.testing import KeyFolder
from serving.domain.tensors import DTYPES
from serving.grpc.schema import MESSAGES
from serving.settings import Settings


@pytest.fixture
async def at(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> AsyncIterator[tuple[Serving, Caller]]:
    port = free_port()
    registry.register("late", trained())
    async with Serving.started(settings(grpc_port=port), key_folder) as serving:
        await serving.deploy("late", "late")
        async with Caller.at(port, key_folder.headers("serving")) as caller:
            yield serving, caller


def request(asked: list[dict[str, Any]], *, raw: bool = True, **more: Any) -> Any:
    message = MESSAGES["ModelInferRequest"](model_name="late", **more)
    fields = {"FP32": "fp32_contents", "INT64": "int64_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
    for name, (datatype, array) in tensors(asked).items():
        given = message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        values = [str(it).encode() if datatype == "BYTES" else it for it in array.ravel().tolist()]
        if not raw:
            getattr(given.contents, fields[datatype]).extend(values)
        elif datatype == "BYTES":
            message.raw_input_contents.append(b"".join(len(it).to_bytes(4, "little") + it for it in values))
        else:
            message.raw_input_contents.append(array.tobytes())
    return message


def flat(answer: Any) -> dict[str, list[Any]]:
    found = {}
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        found[output.name] = np.frombuffer(raw, DTYPES[output.datatype]).tolist()
    return found


async def test_raw_and_typed_contents_get_what_rest_answers_to_the_last_bit(at: tuple[Serving, Caller]) -> None:
    serving, caller = at
    asked = rows(40, seed=3)
    said = outputs(await serving.http.post(INFER, json=as_json(asked)))
    raw = await caller.ask("ModelInfer", request(asked, id="seven"))
    typed = await caller.ask("ModelInfer", request(asked, raw=False))
    assert flat(raw) == flat(typed) == said
    assert (raw.model_name, raw.model_version, raw.id, raw.parameters["revision"].int64_param) == (
        "late",
        "1",
        "seven",
        1,
    )
    assert list(raw.outputs[2].shape) == [40, 2]
    one = request(asked, model_version="1")
    one.outputs.add(name="score")
    assert flat(await caller.ask("ModelInfer", one)) == {"score": said["score"]}
