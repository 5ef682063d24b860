"""What runs where: ONNX of this platform here, if it cannot loop, and everything else in a child of its project."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from registries import digest_of
from targets import target
from worlds import BOOSTING, rows, trained

from models.rows import arrays_of
from models.tensor_rows import TensorsInvalid, arrays_of_rows
from models.tensor_signature import TensorSignature, signature_of_json
from serving.domain.limits import UNLIMITED
from serving.domain.revisions import File, Target
from serving.replica.children import ChildLimits, ModelFailed
from serving.replica.files import Files
from serving.replica.lanes import Queueing
from serving.replica.residents import Here, Loader
from serving.replica.runners import InChild, Runners
from serving.runner.runtimes import NEEDS, Loading, formats_here, lacking, load

LIMITS = ChildLimits(memory=1 << 30, load=timedelta(seconds=60), predict=timedelta(seconds=20))
BATCHED = {
    "task": "tensors",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    "classes": [],
}


def spec(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def onnx(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any = ()) -> bytes:
    given, made = ([helper.make_tensor_value_info(*it) for it in side] for side in (inputs, outputs))
    constants = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "g", given, made, constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    return bytes(model.SerializeToString())


def doubling() -> bytes:
    sides = [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, ["n", 2])]
    return onnx([helper.make_node("Mul", ["x", "two"], ["y"])], *sides, [("two", np.array(2, np.float32))])


def branching() -> bytes:
    """Twice x, by way of a branch that is always taken."""
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 2])
    twice = helper.make_graph([helper.make_node("Add", ["x", "x"], ["z"])], "b", [], [value])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=twice, else_branch=twice)
    sides = [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, ["n", 2])]
    return onnx([node], *sides, [("yes", np.array(True))])


def weights() -> bytes:
    header = {
        "weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "bias": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + struct.pack("<6f", 2, 0, 0, 2, 0, 0)


LINEAR = {"name": "linear", "inputs": 2, "outputs": 2}


def described(content: bytes, name: str, *, signature: Any = None, origin: str = "user", **more: Any) -> Target:
    file = File(name, "model", digest_of(content), len(content), origin)
    return target(file=file, signature=signature or BATCHED, **{"example": (), **more})


class Given:
    """Where the files of these contents are from."""

    def __init__(self, *contents: bytes) -> None:
        self._contents = contents

    @asynccontextmanager
    async def file(self, project: str, model: str, version: int, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield self._contents[version - 1]

        yield chunks()


@asynccontextmanager
async def loading(folder: Path, *contents: bytes) -> AsyncIterator[tuple[Loader, Runners]]:
    files = Files(folder, Given(*contents), largest=1 << 26)
    files.prepare()
    queueing = Queueing(10)
    runners = Runners(replace(LIMITS, models=files.folder), queueing=queueing)
    loader = Loader(files, runners, queueing=queueing, threads=1)
    try:
        yield loader, runners
    finally:
        await runners.close()
        loader.close()
        files.close()


async def test_what_runs_where_and_answers_the_same(tmp_path: Path) -> None:
    contents = doubling(), branching(), weights()
    targets = [
        described(contents[0], "onnx", origin="platform", version=1),
        described(contents[0], "onnx", version=1),
        described(contents[1], "onnx", origin="platform", version=2),
        described(contents[2], "safetensors", version=3, architecture=LINEAR),
    ]
    async with loading(tmp_path, *contents) as (loader, runners):
        residents = [await loader.load("demo", it) for it in targets]
        assert [type(it) for it in residents] == [Here, InChild, InChild, InChild]
        assert len(runners.of("demo")) == 1
        asked = [[1, 2], [3.5, -4]]
        for resident in residents:
            signature = resident.signature
            assert isinstance(signature, TensorSignature)
            lane = resident.lane(UNLIMITED)
            arrays = arrays_of_rows(signature, asked)
            one, two = await asyncio.gather(lane.predict(arrays, 2), lane.predict(arrays, 2))
            expected = [{"y": [2.0, 4.0]}, {"y": [7.0, -8.0]}]
            assert signature.answers_of(one) == signature.answers_of(two) == expected
        for resident in residents:
            await resident.close()


async def test_a_model_that_is_not_batched_is_asked_as_a_whole(tmp_path: Path) -> None:
    sides = [("x", TensorProto.FLOAT, [2, "k"]), ("s", TensorProto.FLOAT, [])], [("y", TensorProto.FLOAT, [2, "k"])]
    content = onnx([helper.make_node("Mul", ["x", "s"], ["y"])], *sides)
    inputs = [spec("x", "FP32", 2, -1), spec("s", "FP32")]
    signature = {**BATCHED, "inputs": inputs, "outputs": [spec("y", "FP32", 2, -1)]}
    async with loading(tmp_path, content) as (loader, _):
        resident = await loader.load("demo", described(content, "onnx", signature=signature))
        lane = resident.lane(UNLIMITED)
        known = resident.signature
        assert isinstance(known, TensorSignature)
        asked = [arrays_of_rows(known, [{"x": [[it], [it]], "s": 3}]) for it in (1, 2)]
        found = await asyncio.gather(*(lane.predict(it, 1) for it in asked))
        assert [known.answers_of(it) for it in found] == [[{"y": [[3.0], [3.0]]}], [{"y": [[6.0], [6.0]]}]]
        await resident.close()


async def test_bytes_that_are_no_text_are_the_askers_mistake_and_no_one_elses(tmp_path: Path) -> None:
    sides = [("x", TensorProto.STRING, ["n"])], [("y", TensorProto.STRING, ["n"])]
    content = onnx([helper.make_node("Identity", ["x"], ["y"])], *sides)
    signature = {**BATCHED, "inputs": [spec("x", "BYTES", -1)], "outputs": [spec("y", "BYTES", -1)]}
    async with loading(tmp_path, content) as (loader, _):
        resident = await loader.load("demo", described(content, "onnx", signature=signature))
        lane = resident.lane(UNLIMITED)
        known = resident.signature
        assert isinstance(known, TensorSignature)
        bad = arrays_of_rows(known, [{"b64": "/w=="}])
        good = arrays_of_rows(known, ["ü"])
        first, mistake, last = await asyncio.gather(
            *(lane.predict(it, 1) for it in (good, bad, good)), return_exceptions=True
        )
        assert isinstance(mistake, TensorsInvalid)
        assert mistake.errors == [{"pointer": "#/inputs", "detail": "'x' must be UTF-8"}]
        for found in (first, last):
            assert not isinstance(found, BaseException)
            assert known.answers_of(found) == [{"y": "ü"}]
        await resident.close()


async def test_a_model_of_scikit_learn_runs_confined(tmp_path: Path) -> None:
    made = trained(BOOSTING, twin=False)
    content = made.files["skops"]
    described_as = described(content, "skops", signature=made.signature.to_json(), origin="platform")
    async with loading(tmp_path, content) as (loader, _):
        resident = await loader.load("demo", described_as)
        asked = rows(3)
        found = await resident.lane(UNLIMITED).predict(arrays_of(made.signature, {"rows": asked}), 3)
        assert made.signature.labels_of(found) == made.predict(asked)[0]
        await resident.close()


HOSTILE = [b"", b"\x80\x04\x95.", b"PK\x03\x04" + b"\0" * 26, b"garbage" * 100]


@pytest.mark.parametrize("name", ["onnx", "safetensors", "skops"])
async def test_no_bytes_and_garbage_are_no_models(tmp_path: Path, name: str) -> None:
    contents = [*HOSTILE, doubling()[:-9], weights()[:-9]]
    async with loading(tmp_path, *contents) as (loader, runners):
        for version, content in enumerate(contents, start=1):
            with pytest.raises(ModelFailed):
                await loader.load("demo", described(content, name, version=version, architecture=LINEAR))
        assert len(runners.of("demo")) == 1  # and it never broke off


async def test_what_is_said_to_be_ours_is_looked_at_all_the_same(tmp_path: Path) -> None:
    async with loading(tmp_path, b"") as (loader, _):
        with pytest.raises(Exception, match="not an ONNX model"):
            await loader.load("demo", described(b"", "onnx", origin="platform"))


def test_what_is_not_installed_is_said_with_what_to_do() -> None:
    for name, (module, wanted) in NEEDS.items():
        assert f"no {module}" in lacking(name)
        assert f"install '{wanted}'" in lacking(name)
    assert "serving-onnx" in lacking("skops")
    assert "pickle" in lacking("pickle")


def test_a_format_that_is_not_here_is_not_loaded() -> None:
    content: Any = b""
    for name in ("pickle", *(set(NEEDS) - set(formats_here()))):
        with pytest.raises(Exception, match=r"not served|has no"):
            load(name, Loading(content, signature_of_json(BATCHED)))
