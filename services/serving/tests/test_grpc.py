"""The Open Inference Protocol over gRPC, asked by a plain channel: what `/v2/…` answers, and nothing else."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from grpc_at_work import Caller
from processes import free_port
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from test_api_inference import INFER, as_json, outputs, tensors
from worlds import rows, trained

from kit.callers import Role
from kit.testing import KeyFolder
from serving.domain.tensors import DTYPES
from serving.grpc.schema import MESSAGES, METHODS
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


async def test_what_rest_says_of_server_and_models_is_said_here(at: tuple[Serving, Caller]) -> None:
    serving, caller = at
    of, late = METHODS, {"name": "late"}
    assert (await caller.ask("ServerLive")).live
    assert (await caller.ask("ServerReady")).ready
    assert (await caller.ask("ModelReady", of["ModelReady"][0](**late, version="1"))).ready
    for name, path in (
        ("ServerMetadata", "/v2"),
        ("ModelMetadata", "/v2/models/late"),
        ("ModelConfig", "/v2/models/late/config"),
        ("ModelStatistics", "/v2/models/late/stats"),
    ):
        rest = (await serving.http.get(path)).json()
        message = of[name][0](**({} if name == "ServerMetadata" else late))
        said = json_format.MessageToDict(await caller.ask(name, message), preserving_proto_field_name=True)
        _is_said(said, {"config": rest} if name == "ModelConfig" else rest)
    every = await caller.ask("ModelStatistics")
    assert [it.name for it in every.model_stats] == ["late"]


def _is_said(said: Any, rest: Any) -> None:
    """What REST has is there; a message leaves out what is nothing, and has large numbers as texts."""
    if isinstance(rest, dict):
        for name, value in rest.items():
            if value not in (0, 0.0, "", [], False):
                _is_said(said[name], value)
    elif isinstance(rest, list):
        assert len(said) == len(rest)
        for one, other in zip(said, rest, strict=True):
            _is_said(one, other)
    else:
        assert str(said) == str(rest)


async def test_models_are_let_go_and_brought_back(at: tuple[Serving, Caller]) -> None:
    _, caller = at

    async def states(*, ready: bool = False) -> list[str]:
        listed = await caller.ask("RepositoryIndex", METHODS["RepositoryIndex"][0](ready=ready))
        return [it.state for it in listed.models]

    late = {"model_name": "late"}
    await caller.ask("RepositoryModelUnload", METHODS["RepositoryModelUnload"][0](**late))
    assert await states() == ["UNAVAILABLE"]
    assert await states(ready=True) == []
    await caller.ask("RepositoryModelLoad", METHODS["RepositoryModelLoad"][0](**late))
    assert await states() == ["READY"]
    viewer = at[0].headers(role=Role.VIEWER)
    refused = await caller.refused(
        "RepositoryModelUnload", METHODS["RepositoryModelUnload"][0](**late), metadata=viewer.items()
    )
    assert refused.code() == grpc.StatusCode.PERMISSION_DENIED
    assert await states() == ["READY"]


async def test_other_projects_are_not_there_and_strangers_hear_nothing(at: tuple[Serving, Caller]) -> None:
    serving, caller = at
    other = serving.headers(project="other")
    asked = request(rows(1))
    assert (await caller.refused("ModelInfer", asked, metadata=other.items())).code() == grpc.StatusCode.NOT_FOUND
    for metadata in ((), (("authorization", "Bearer x.y.z"),), tuple(caller.headers.items()) * 2):
        for name in METHODS:
            refused = await caller.refused(name, metadata=metadata)
            assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, name


async def test_counts_are_those_of_rest(at: tuple[Serving, Caller]) -> None:
    serving, caller = at
    await caller.ask("ModelInfer", request(rows(7)))
    assert (await serving.predict("late", rows(2))).is_success
    [stats] = (await caller.ask("ModelStatistics", METHODS["ModelStatistics"][0](name="late"))).model_stats
    assert (stats.inference_count, stats.execution_count, stats.inference_stats.success.count) == (9, 2, 2)
    assert [(it.batch_size, it.compute_infer.count) for it in stats.batch_stats] == [(2, 1), (7, 1)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [2, 1]}, "the shape"),
        ({"shape": [1] * 9}, "more than 8 sizes"),
        ({"shape": [-1, -1]}, "sizes"),
        ({"name": "nobody"}, "nobody"),
        ({"datatype": "FP99"}, "datatype"),
        ({"datatype": "FP64"}, "bytes"),
    ],
)
async def test_what_cannot_be_read_is_an_invalid_argument(
    at: tuple[Serving, Caller], changes: dict[str, Any], words: str
) -> None:
    _, caller = at
    asked = request(rows(1))
    given = next(it for it in asked.inputs if it.datatype == "FP32")
    for name, value in changes.items():
        if name == "shape":
            del given.shape[:]
            given.shape.extend(value)
        else:
            setattr(given, name, value)
    refused = await caller.refused("ModelInfer", asked)
    assert (refused.code(), words in str(refused.details())) == (grpc.StatusCode.INVALID_ARGUMENT, True), refused


async def test_metadata_names_the_request_and_the_answer_says_so(at: tuple[Serving, Caller]) -> None:
    _, caller = at
    said = (*caller.headers.items(), ("x-request-id", "mine"))
    assert (await caller.ask("ModelInfer", request(rows(1)), metadata=said)).id == "mine"
    refused = await caller.refused("ModelInfer", MESSAGES["ModelInferRequest"](model_name="nobody"), metadata=said)
    assert refused.code() == grpc.StatusCode.NOT_FOUND
    assert dict(refused.trailing_metadata() or ())["x-request-id"] == "mine"


def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    program = "import sys, serving.app; sys.exit(any(it.partition('.')[0] == 'grpc' for it in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
