"""What an ONNX file says of itself, without a runtime."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trainyard import onnx_files
from trainyard.onnx_files import DATATYPES, NotOnnx, signature_of

FLOAT = TensorProto.FLOAT


def value(name: str, kind: int = FLOAT, shape: Any = ("n", 4)) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(inputs: list[Any], outputs: list[Any], **more: Any) -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", inputs, outputs, **more)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def read(tmp_path: Path, data: bytes) -> dict[str, Any]:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    return signature_of(path)


def test_names_datatypes_and_shapes_are_read(tmp_path: Path) -> None:
    inputs = [value("x"), value("mask", TensorProto.BOOL, (None, 3, 2)), value("text", TensorProto.STRING, ())]
    assert read(tmp_path, model_of(inputs, [value("y", TensorProto.DOUBLE, ("n", 10))])) == {
        "task": "tensors",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "mask", "datatype": "BOOL", "shape": [-1, 3, 2]},
            {"name": "text", "datatype": "BYTES", "shape": []},
        ],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 10]}],
        "classes": [],
    }


@pytest.mark.parametrize("kind", DATATYPES)
def test_every_datatype_of_the_protocol_has_its_word(tmp_path: Path, kind: int) -> None:
    found = read(tmp_path, model_of([value("x", kind)], [value("y")]))
    assert found["inputs"][0]["datatype"] == DATATYPES[kind]


def test_weights_are_no_inputs(tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.zeros((3, 3), np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "i")
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "s")
    sparse = helper.make_sparse_tensor(values, indices, [9])
    inputs = [value("w", shape=(3, 3)), value("x"), value("s", shape=(9,))]
    found = read(tmp_path, model_of(inputs, [value("y")], initializer=[weights], sparse_initializer=[sparse]))
    assert [tensor["name"] for tensor in found["inputs"]] == ["x"]


def test_weights_are_stepped_over(tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.zeros(8 << 20, np.uint8), "w")
    data = model_of([value("x")], [value("y")], initializer=[weights])

    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.count += len(found)
            return found

    file = Counting(data)
    assert onnx_files._Reader(file, "m.onnx").signature(len(data))["inputs"][0]["name"] == "x"
    assert file.count < 2000


def test_a_map_is_no_tensor_and_it_is_said_what_to_do(tmp_path: Path) -> None:
    mapping = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, ()))
    output = helper.make_value_info("output_probability", helper.make_sequence_type_proto(mapping))
    with pytest.raises(NotOnnx, match=r"'output_probability' of m\.onnx is no tensor.*zipmap"):
        read(tmp_path, model_of([value("x")], [value("y"), output]))


def test_what_is_not_said_is_to_be_said_by_hand(tmp_path: Path) -> None:
    with pytest.raises(NotOnnx, match="--signature"):
        read(tmp_path, model_of([value("x", shape=None)], [value("y")]))
    with pytest.raises(NotOnnx, match="does not know"):
        read(tmp_path, model_of([value("x", TensorProto.BFLOAT16)], [value("y")]))
    for inputs, outputs in (([], [value("y")]), ([value("x")], [])):
        with pytest.raises(NotOnnx, match="no inputs, or no outputs"):
            read(tmp_path, model_of(inputs, outputs))


SOUND = model_of([value("x")], [value("y")])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04}.",
        b"PK\3\4" * 9,
        b"{}",
        SOUND[:-1],
        SOUND[: len(SOUND) // 2],
        SOUND + b"\xff" * 11,
        SOUND + b"\x0b",
        SOUND + b"\0\0",
        SOUND + b"\x72\x05a",
        SOUND + SOUND,
        b"\x42\0\x38\1",  # a graph that is a number
        b"\x42\0\x3a\x02\x58\1",  # an input that is a number
    ],
)
def test_what_is_none_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotOnnx, match=r"m\.onnx is not an ONNX model"):
        read(tmp_path, data)


def test_numbers_of_fixed_width_are_stepped_over(tmp_path: Path) -> None:
    assert read(tmp_path, SOUND + b"\x79" + b"\0" * 8 + b"\x7d" + b"\0" * 4) == read(tmp_path, SOUND)


def test_what_has_no_end_is_not_read_to_its_end() -> None:
    with pytest.raises(NotOnnx, match="too many parts"):
        onnx_files._Reader(io.BytesIO(SOUND), "m.onnx", most=3).signature(len(SOUND))
    long = model_of([value("x" * (2 << 20))], [value("y")])
    with pytest.raises(NotOnnx, match="has no end"):
        onnx_files._Reader(io.BytesIO(long), "m.onnx").signature(len(long))


def test_a_size_that_is_none_is_any(tmp_path: Path) -> None:
    found = read(tmp_path, model_of([value("x", shape=(0, -7, 2**40, "n"))], [value("y")]))
    assert found["inputs"][0]["shape"] == [-1, -1, -1, -1]
