"""Tensors of the protocol, in both forms and both ways."""

import struct
from typing import Any

import numpy as np
import pytest

from models.signature import Field, ModelOutputInvalid, Prediction, Signature
from models.tensor_signature import TensorSignature, TensorSpec
from serving.domain import tensors
from serving.domain.tensors import Asked, Output, TensorInvalid

LABELS = Signature.of([Field("a", "number")], "classification", ("early", "late"))
FLAGS = Signature.of([Field("a", "number")], "classification", (False, True))
NUMBERS = Signature.of([Field("a", "number")], "classification", (0, 1, 2))
VALUE = Signature.of([Field("a", "number")], "regression")


def given(datatype: str, data: Any, *shape: int) -> dict[str, Any]:
    return {"inputs": [{"name": "a", "datatype": datatype, "shape": list(shape), "data": data}]}


def packed(datatype: str, size: int, *shape: int) -> dict[str, Any]:
    said = {"name": "a", "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}
    return {"inputs": [said]}


@pytest.mark.parametrize(
    ("datatype", "data", "dtype"),
    [
        ("BOOL", [True, False], np.bool_),
        ("UINT8", [0, 255], np.uint8),
        ("INT64", [-(2**63), 2**63 - 1], np.int64),
        ("UINT64", [0, 2**64 - 1], np.uint64),
        ("FP16", [0.5, 1], np.float16),
        ("FP32", [0.5, 1], np.float32),
        ("FP64", [0.1, -3], np.float64),
        ("BYTES", ["", "ü"], np.object_),
    ],
)
def test_every_datatype_is_read_from_json(datatype: str, data: list[Any], dtype: type) -> None:
    flat = tensors.read(given(datatype, data, 2, 1), b"").tensors["a"]
    nested = tensors.read(given(datatype, [[value] for value in data], 2, 1), b"").tensors["a"]
    assert (flat.dtype, flat.shape) == (np.dtype(dtype), (2, 1))
    assert flat[:, 0].tolist() == data
    assert nested.tolist() == flat.tolist()


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("BOOL", np.array([[True], [False]])),
        ("INT8", np.array([[-1], [1]], np.int8)),
        ("INT64", np.array([[-1], [1]], np.int64)),
        ("FP32", np.array([[0.1], [np.nan]], np.float32)),
        ("FP64", np.array([[0.1], [2]])),
    ],
)
def test_every_datatype_is_read_from_bytes(datatype: str, array: np.ndarray[Any, Any]) -> None:
    raw = array.tobytes()
    np.testing.assert_array_equal(tensors.read(packed(datatype, len(raw), 2, 1), raw).tensors["a"], array)


def test_texts_are_read_from_bytes() -> None:
    raw = b"".join(struct.pack("<I", len(text)) + text for text in (b"", "ü".encode()))
    assert tensors.read(packed("BYTES", len(raw), 2), raw).tensors["a"].tolist() == [b"", "ü".encode()]


def test_tensors_lie_behind_the_json_in_their_order() -> None:
    raw = struct.pack("<fq", 0.5, 7)
    first, second = packed("FP32", 4, 1)["inputs"][0], packed("INT64", 8, 1)["inputs"][0] | {"name": "b"}
    middle = given("BOOL", [True], 1)["inputs"][0] | {"name": "c"}
    read = tensors.read({"inputs": [first, middle, second], "id": "7"}, raw)
    assert {name: tensor.tolist() for name, tensor in read.tensors.items()} == {"a": [0.5], "b": [7], "c": [True]}
    assert read.id == "7"


def test_a_null_is_a_missing_number() -> None:
    assert np.isnan(tensors.read(given("FP32", [None, 1.5], 2), b"").tensors["a"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("document", "binary", "said"),
    [
        ([], b"", "#/inputs must be an array of tensors"),
        ({"inputs": 1}, b"", "#/inputs must be an array of tensors"),
        ({"inputs": [], "id": 7}, b"", "#/id must be a string"),
        ({"inputs": [1]}, b"", "#/inputs/0 must be an object with a name"),
        ({"inputs": [{"name": "a", "parameters": 1}]}, b"", "#/inputs/0/parameters must be an object"),
        ({"inputs": given("FP32", [1], 1)["inputs"] * 2}, b"", "#/inputs/1 names 'a' twice"),
        (given("FP32", [1], -1), b"", "#/inputs/0/shape must be an array of sizes"),
        (
            {"inputs": [{"name": "a", "datatype": "FP32", "shape": 1}]},
            b"",
            "#/inputs/0/shape must be an array of sizes",
        ),
        (given("FP32", [1], 1_000_001), b"", "#/inputs/0/shape has more than 1000000 elements"),
        (given("FP32", [], 1_000_001, 0), b"", "#/inputs/0/shape has more than 1000000 elements"),
        (given("FP32", [1e39], 1), b"", "#/inputs/0/data has values beyond FP32"),
        (given("FP99", [1], 1), b"", "#/inputs/0/datatype must be one of BOOL"),
        (given("FP32", 1, 1), b"", "#/inputs/0/data must be an array"),
        (given("FP32", [1, 2], 1), b"", "#/inputs/0/data has 2 elements, and the shape [1] others"),
        (given("FP32", [[1, 2], 3], 3, 1), b"", "#/inputs/0/data has 2 elements"),
        (given("FP32", ["1"], 1), b"", "#/inputs/0/data has values that are not FP32"),
        (given("INT8", [1.5], 1), b"", "#/inputs/0/data has values that are not INT8"),
        (given("INT8", [None], 1), b"", "#/inputs/0/data has values that are not INT8"),
        (given("INT8", [True], 1), b"", "#/inputs/0/data has values that are not INT8"),
        (given("BYTES", [None], 1), b"", "#/inputs/0/data has values that are not BYTES"),
        (given("INT8", [300], 1), b"", "#/inputs/0/data has values beyond INT8"),
        (packed("FP32", 4, 1), b"", "#/inputs/0 describes 4 bytes, and fewer came"),
        (packed("FP32", -4, 1), b"", "#/inputs/0 has a binary_data_size that is no size"),
        (packed("FP32", 3, 1), b"123", "#/inputs/0 has 3 bytes, and the shape [1] takes others"),
        (packed("FP32", 4, 1), b"12345", "#/inputs describe 4 bytes of binary data, and 5 came"),
        (packed("BYTES", 5, 2), b"\1\0\0\0a", "#/inputs/0 has lengths that do not fit"),
        (packed("BYTES", 4, 1), b"\1\0\0\0", "#/inputs/0 has lengths that do not fit"),
        ({**given("FP32", [1], 1), "outputs": 1}, b"", "#/outputs must be an array"),
        ({**given("FP32", [1], 1), "outputs": [{}]}, b"", "#/outputs/0 must be an object with a name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(document: Any, binary: bytes, said: str) -> None:
    with pytest.raises(TensorInvalid) as raised:
        tensors.read(document, binary)
    [place] = raised.value.errors
    assert f"{place['pointer']} {place['detail']}".startswith(said)


def test_outputs_are_asked_for_by_name_and_form() -> None:
    named: list[dict[str, Any]] = [{"name": "x"}, {"name": "y", "parameters": {"binary_data": False}}]
    document = {**given("FP32", [1], 1), "outputs": named, "parameters": {"binary_data_output": True}}
    assert tensors.read(document, b"").outputs == (Output("x", True), Output("y", False))
    assert tensors.read(given("FP32", [1], 1), b"") == Asked({"a": np.array([1], np.float32)})


def test_a_raw_body_is_the_one_input() -> None:
    assert tensors.read_raw(VALUE, struct.pack("<ff", 1, 2)).tensors["a"].tolist() == [[1], [2]]
    text = Signature.of([Field("t", "string")], "regression")
    assert tensors.read_raw(text, b"words").tensors["t"].tolist() == [[b"words"]]
    with pytest.raises(TensorInvalid):
        tensors.read_raw(VALUE, b"12345")
    two = Signature.of([Field("a", "number"), Field("b", "number")], "regression")
    with pytest.raises(TensorInvalid):
        tensors.read_raw(two, b"1234")


def test_columns_have_datatypes_that_can_say_what_is_missing() -> None:
    said = {
        (kind, nullable): tensors.datatype_of(Field("a", kind, nullable))
        for kind in ("number", "integer", "boolean", "string", "timestamp")
        for nullable in (False, True)
    }
    assert [said[(kind, False)] for kind in ("number", "integer", "boolean", "string", "timestamp")] == [
        *("FP32", "INT64", "BOOL", "BYTES", "INT64")
    ]
    assert [said[(kind, True)] for kind in ("integer", "boolean")] == ["FP32", "FP32"]


SCORES = np.array([[0.75, 0.25], [0.25, 0.75]], np.float32)


@pytest.mark.parametrize(
    ("signature", "prediction", "names", "lists"),
    [
        (
            LABELS,
            Prediction(np.array(["early", "late"], object), SCORES),
            ["BYTES", "FP64", "FP64"],
            [["early", "late"], [0.25, 0.75], [0.75, 0.25, 0.25, 0.75]],
        ),
        (
            FLAGS,
            Prediction(np.array([0, 1]), SCORES),
            ["BOOL", "FP64", "FP64"],
            [[False, True], [0.25, 0.75], [0.75, 0.25, 0.25, 0.75]],
        ),
        (
            NUMBERS,
            Prediction(np.array([2]), np.array([[0.25, 0.25, 0.5]])),
            ["INT64", "FP64", "FP64"],
            [[2], [0.5], [0.25, 0.25, 0.5]],
        ),
        (VALUE, Prediction(np.array([1.5]), None), ["FP64"], [[1.5]]),
        (
            Signature.of(LABELS.inputs, "classification", ("early", "late"), scored=False),
            Prediction(np.array(["late"], object), None),
            ["BYTES"],
            [["late"]],
        ),
    ],
)
def test_answers_become_tensors(
    signature: Signature, prediction: Prediction, names: list[str], lists: list[list[Any]]
) -> None:
    made = tensors.tensors_of(signature, prediction)
    described, parts = tensors.write(made, Asked({}))
    assert [it["datatype"] for it in described] == names
    assert [it["data"] for it in described] == lists
    assert parts == []
    assert [it["name"] for it in described] == [name for name, _, _ in tensors.outputs_of(signature)]


def test_answers_that_are_no_numbers_are_no_answers() -> None:
    for signature, prediction in (
        (VALUE, Prediction(np.array([np.nan]), None)),
        (FLAGS, Prediction(np.array([0]), np.array([[np.inf, 0]]))),
    ):
        with pytest.raises(ModelOutputInvalid):
            tensors.tensors_of(signature, prediction)


def test_answers_go_as_bytes_where_they_are_asked_for_so() -> None:
    made = tensors.tensors_of(LABELS, Prediction(np.array(["early", "late"], object), SCORES))
    asked = Asked({}, outputs=(Output("score", False), Output("label", True), Output("probabilities", True)))
    described, parts = tensors.write(made, asked)
    assert described[0]["data"] == [0.25, 0.75]
    assert [it["parameters"]["binary_data_size"] for it in described[1:]] == [17, 32] == list(map(len, parts))
    assert parts[0] == struct.pack("<I5sI4s", 5, b"early", 4, b"late")
    assert np.frombuffer(parts[1]).tolist() == [0.75, 0.25, 0.25, 0.75]
    whole, bits = tensors.write(made, Asked({}, binary=True))
    assert (len(whole), len(bits)) == (3, 3)


def test_an_output_that_there_is_not_is_refused() -> None:
    made = tensors.tensors_of(VALUE, Prediction(np.array([1.5]), None))
    with pytest.raises(TensorInvalid):
        tensors.write(made, Asked({}, outputs=(Output("nothing", False),)))


def of_tensors(*inputs: TensorSpec) -> TensorSignature:
    return TensorSignature(inputs, (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("t", "BYTES", (-1,))))


PAIRS = of_tensors(TensorSpec("x", "FP32", (-1, 2)))


def test_a_model_of_tensors_is_described_by_its_signature() -> None:
    assert tensors.inputs_of(PAIRS) == [("x", "FP32", [-1, 2])]
    assert tensors.outputs_of(PAIRS) == [("y", "FP32", [-1, 2]), ("t", "BYTES", [-1])]
    assert tensors.inputs_of(VALUE) == [("a", "FP32", [-1, 1])]


def test_a_raw_body_has_the_shape_that_its_bytes_allow() -> None:
    raw = struct.pack("<ffff", 1, 2, 3, 4)
    assert tensors.read_raw(PAIRS, raw).tensors["x"].tolist() == [[1, 2], [3, 4]]
    fixed = of_tensors(TensorSpec("x", "FP32", (2, 2)))
    assert tensors.read_raw(fixed, raw).tensors["x"].tolist() == [[1, 2], [3, 4]]
    image = of_tensors(TensorSpec("x", "BYTES", (-1, 1)))
    assert tensors.read_raw(image, b"\xff").tensors["x"].tolist() == [[b"\xff"]]
    for signature, body in ((PAIRS, raw[:12]), (fixed, raw[:12]), (of_tensors(TensorSpec("x", "INT8", (-1, -1))), raw)):
        with pytest.raises(TensorInvalid):
            tensors.read_raw(signature, body)


def test_bytes_go_out_as_text_or_as_bytes() -> None:
    words = np.array([b"\xc3\xbc", b"\xff"], object)
    outputs = {"y": np.zeros((2, 2), np.float32), "t": words}
    made = tensors.tensors_of(PAIRS, PAIRS.prediction_of(outputs, 2))
    described, parts = tensors.write(made, Asked({}, outputs=(Output("t", True),)))
    assert parts == [b"\2\0\0\0\xc3\xbc\1\0\0\0\xff"]
    assert described[0]["parameters"] == {"binary_data_size": 11}
    with pytest.raises(TensorInvalid) as raised:
        tensors.write(made, Asked({}))
    assert raised.value.errors[0]["pointer"] == "#/outputs/1"
    made = tensors.tensors_of(PAIRS, PAIRS.prediction_of({**outputs, "t": words[[0, 0]]}, 2))
    assert tensors.write(made, Asked({}))[0][1]["data"] == ["ü", "ü"]
