"""Signatures of tensors, and what their models answer."""

from typing import Any

import numpy as np
import pytest

from kit import errors
from models.signature import Field, ModelOutputInvalid, Prediction, Signature
from models.tensor_signature import MAX_TENSORS, TensorSignature, TensorSpec, signature_of_json


def spec(name: str = "x", datatype: str = "FP32", *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def document(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"task": "tensors", "inputs": inputs, "outputs": outputs, "classes": []}


BATCHED = document([spec("x", "FP32", -1, 4)], [spec("y", "FP32", -1, 2), spec("name", "BYTES", -1)])
WHOLE = document([spec("x", "FP32", 1, -1)], [spec("y", "INT64", -1)])


def test_both_kinds_are_read_from_json() -> None:
    tabular = Signature.of([Field("a", "number")], "regression")
    assert signature_of_json(tabular.to_json()) == tabular
    made = signature_of_json({**BATCHED, "later": 1, "inputs": [{**BATCHED["inputs"][0], "later": 1}]})
    assert isinstance(made, TensorSignature)
    assert made.to_json() == BATCHED
    assert (made.names, made.is_batched, made.task, made.classes) == (("x",), True, "tensors", ())
    assert signature_of_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("inputs", "outputs", "is_batched"),
    [
        ([spec("x", "FP32", -1, 4)], [spec("y", "FP32", -1)], True),
        ([spec("x", "FP32", 1, 4)], [spec("y", "FP32", -1)], False),
        ([spec("x", "FP32", -1, 4)], [spec("y", "FP32", 1)], False),
        ([spec("x", "FP32", -1, 4), spec("z", "FP32")], [spec("y", "FP32", -1)], False),
    ],
)
def test_a_model_is_batched_if_every_first_dimension_may_vary(
    inputs: list[Any], outputs: list[Any], is_batched: bool
) -> None:
    assert TensorSignature.from_json(document(inputs, outputs)).is_batched is is_batched


@pytest.mark.parametrize(
    "value",
    [
        {"task": "tensors"},
        [],
        None,
        document([], [spec("y", "FP32", 1)]),
        document([spec("x", "FP32", 1)], []),
        document([spec("x", "FP32", 1)] * 2, [spec("y", "FP32", 1)]),
        document([spec(f"x{it}", "FP32", 1) for it in range(MAX_TENSORS + 1)], [spec("y", "FP32", 1)]),
        document([spec("", "FP32", 1)], [spec("y", "FP32", 1)]),
        document([spec("x" * 257, "FP32", 1)], [spec("y", "FP32", 1)]),
        document([spec("x", "BF16", 1)], [spec("y", "FP32", 1)]),
        document([spec("x", "FP32", 0)], [spec("y", "FP32", 1)]),
        document([spec("x", "FP32", -2)], [spec("y", "FP32", 1)]),
        document([spec("x", "FP32", 2**31)], [spec("y", "FP32", 1)]),
        document([spec("x", "FP32", *[1] * 9)], [spec("y", "FP32", 1)]),
        document([{**spec("x"), "shape": [True]}], [spec("y", "FP32", 1)]),
        document([{**spec("x"), "shape": 4}], [spec("y", "FP32", 1)]),
        document([{**spec("x"), "name": 4}], [spec("y", "FP32", 1)]),
        document([1], [spec("y", "FP32", 1)]),  # type: ignore[list-item]
        {**BATCHED, "classes": [1, 2]},
        {**BATCHED, "classes": None},
    ],
)
def test_what_is_no_signature_is_refused(value: Any) -> None:
    with pytest.raises(errors.Invalid):
        signature_of_json(value)


def test_a_tensor_fits_by_datatype_and_shape() -> None:
    made = TensorSpec("x", "FP32", (-1, 4))
    assert made.misfit(np.zeros((7, 4), np.float32)) == ""
    assert made.misfit(np.zeros((7, 4))) == "must be of datatype FP32"
    for shape in ((7, 3), (7,), (7, 4, 1)):
        assert "has the shape" in made.misfit(np.zeros(shape, np.float32))
    assert TensorSpec("x", "BYTES", (-1,)).misfit(np.empty(2, object)) == ""


def batched() -> TensorSignature:
    return TensorSignature.from_json(BATCHED)


def texts(*values: bytes) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_each_row_is_answered_by_the_names_of_the_outputs() -> None:
    outputs = {"name": texts(b"a", b"\xff"), "y": np.array([[0.5, 1], [2, 3]], np.float32)}
    prediction = batched().prediction_of(outputs, 2)
    assert list(prediction.tensors or ()) == ["y", "name"]
    assert batched().answers_of(prediction) == [
        {"y": [0.5, 1.0], "name": "a"},
        {"y": [2.0, 3.0], "name": {"b64": "/w=="}},
    ]
    assert (prediction.size, len(prediction.values)) == (6, 0)
    assert batched().answers_of(prediction.part(1, 2)) == [{"y": [2.0, 3.0], "name": {"b64": "/w=="}}]


def test_a_model_that_is_not_batched_has_one_answer() -> None:
    signature = TensorSignature.from_json(WHOLE)
    prediction = signature.prediction_of({"y": np.array([3, 1, 2])}, 1)
    assert signature.answers_of(prediction) == [{"y": [3, 1, 2]}]
    assert signature.rows_in({"x": np.zeros((1, 9), np.float32)}) == 1
    assert signature.joins({"x": np.zeros((1, 9), np.float32)}) is None


def test_requests_are_joined_whose_rows_are_alike() -> None:
    signature = TensorSignature.from_json(document([spec("x", "FP32", -1, -1)], [spec("y", "FP32", -1)]))
    key = signature.joins({"x": np.zeros((3, 5), np.float32)})
    assert key is not None
    assert key == signature.joins({"x": np.zeros((1, 5), np.float32)})
    assert key != signature.joins({"x": np.zeros((3, 6), np.float32)})
    assert signature.rows_in({"x": np.zeros((3, 5), np.float32)}) == 3
    tabular = Signature.of([Field("a", "number")], "regression")
    assert tabular.rows_in({"a": np.zeros((3, 1), np.float32)}) == 3
    assert tabular.joins({"a": np.zeros((3, 1))}) is not None


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"y": np.zeros((2, 2), np.float32)}, "'name' is missing"),
        ({"y": np.zeros((2, 2)), "name": texts(b"", b"")}, "'y' must be of datatype FP32"),
        ({"y": np.zeros((2, 3), np.float32), "name": texts(b"", b"")}, "'y' has the shape [2, 3]"),
        ({"y": np.zeros((1, 2), np.float32), "name": texts(b"", b"")}, "'y' has 1 answers to 2 rows"),
    ],
)
def test_outputs_are_those_that_the_signature_promises(outputs: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelOutputInvalid) as raised:
        batched().prediction_of(outputs, 2)
    assert said in raised.value.detail


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_has_only_numbers(value: float) -> None:
    outputs = {"y": np.array([[0, value]], np.float32), "name": texts(b"")}
    with pytest.raises(ModelOutputInvalid):
        batched().answers_of(batched().prediction_of(outputs, 1))


def test_a_prediction_of_columns_has_its_rows() -> None:
    prediction = Prediction(np.array([1, 0, 1]), np.eye(3))
    assert prediction.size == 3
    part = prediction.part(1, 3)
    assert part.values.tolist() == [0, 1]
    assert part.scores is not None
    assert part.scores.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert Prediction(np.array([1.5]), None).part(0, 1).scores is None
