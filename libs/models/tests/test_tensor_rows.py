"""Rows of JSON and tensors of the protocol, for models of tensors."""

from typing import Any

import numpy as np
import pytest

from models.rows import MAX_ROWS, RowsInvalid, arrays_of, arrays_of_tensors
from models.tensor_rows import TensorsInvalid
from models.tensor_signature import MAX_ELEMENTS, TensorSignature, TensorSpec


def signature(*inputs: tuple[str, str, tuple[int, ...]], batched: bool = True) -> TensorSignature:
    output = TensorSpec("y", "FP32", (-1,) if batched else ())
    return TensorSignature(tuple(TensorSpec(*it) for it in inputs), (output,))


ONE = signature(("x", "FP32", (-1, 2)))
TWO = signature(("x", "FP32", (-1, 2)), ("t/x", "BYTES", (-1,)))


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("INT8", [-128, 127]),
        ("UINT64", [0, 2**64 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("FP16", [0.5, 65504]),
        ("FP32", [0.1, -3]),
        ("FP64", [0.1, 1e300]),
    ],
)
def test_every_datatype_is_exact(datatype: str, values: list[Any]) -> None:
    made = signature(("x", datatype, (-1, 2)))
    array = arrays_of(made, {"rows": [values, values]})["x"]
    assert array.dtype == made.inputs[0].dtype
    np.testing.assert_array_equal(array, np.array([values, values], array.dtype))


def test_rows_are_the_values_of_the_one_input_or_objects() -> None:
    for rows in ([[1, 2], [3, 4.5]], [{"x": [1, 2]}, {"x": [3, 4.5]}]):
        assert arrays_of(ONE, {"rows": rows})["x"].tolist() == [[1, 2], [3, 4.5]]
    arrays = arrays_of(TWO, {"rows": [{"x": [1, 2], "t/x": "ü"}, {"t/x": {"b64": "/wA="}, "x": [3, 4]}]})
    assert list(arrays) == ["x", "t/x"]
    assert arrays["t/x"].tolist() == ["ü".encode(), b"\xff\0"]
    alone = signature(("x", "FP64", (-1,)))
    assert arrays_of(alone, {"rows": [1, 2.5]})["x"].tolist() == [1, 2.5]
    blob = signature(("x", "BYTES", (-1,)))
    assert arrays_of(blob, {"rows": [{"b64": "YQ=="}, "b"]})["x"].tolist() == [b"a", b"b"]


def test_a_null_is_not_a_number() -> None:
    assert np.isnan(arrays_of(ONE, {"rows": [[None, 1]]})["x"]).tolist() == [[True, False]]


def test_sizes_that_vary_are_alike_within_a_request() -> None:
    made = signature(("x", "INT64", (-1, -1, 2)))
    assert arrays_of(made, {"rows": [[[1, 2]] * 3] * 2})["x"].shape == (2, 3, 2)
    with pytest.raises(TensorsInvalid) as raised:
        arrays_of(made, {"rows": [[[1, 2]] * 3, [[1, 2]] * 2]})
    assert raised.value.errors == [
        {"pointer": "#/rows", "detail": "must be nested arrays of equal lengths, and none of them empty"}
    ]


def test_a_model_that_is_not_batched_takes_one_row() -> None:
    made = signature(("x", "FP32", (2, -1)), ("s", "INT64", ()), batched=False)
    arrays = arrays_of(made, {"rows": [{"x": [[1, 2, 3], [4, 5, 6]], "s": 7}]})
    assert (arrays["x"].shape, arrays["s"].shape, arrays["s"].item()) == ((2, 3), (), 7)
    with pytest.raises(TensorsInvalid) as raised:
        arrays_of(made, {"rows": [{"x": [[1], [4]], "s": 7}] * 2})
    assert "must be one row" in raised.value.errors[0]["detail"]


@pytest.mark.parametrize(
    ("made", "rows", "places"),
    [
        (ONE, None, {"#/rows": "must be an array with at least one row"}),
        (ONE, [], {"#/rows": "must be an array with at least one row"}),
        (ONE, [[1, 2]] * (MAX_ROWS + 1), {"#/rows": "10001 rows are more than 10000"}),
        (ONE, [[1, 2], [1], 3], {f"#/rows/{it}": "must be nested arrays of the shape [2]" for it in (1, 2)}),
        (ONE, [[1, [2]]], {"#/rows/0": "must be values of FP32"}),
        (ONE, [[[1], [2]]], {"#/rows/0": "must be values of FP32"}),
        (ONE, [[]], {"#/rows/0": "must be nested arrays of equal lengths, and none of them empty"}),
        (ONE, [["1", 2], [True, 1]], {f"#/rows/{it}": "must be values of FP32" for it in (0, 1)}),
        (ONE, [[1e39, 0]], {"#/rows/0": "must be values that FP32 holds"}),
        (ONE, [{"x": [1, 2]}, [1, 2]], {"#/rows/1": "must be an object of the model's inputs"}),
        (ONE, [{"x": [1, 2], "y/": 1}], {"#/rows/0/y~1": "is not an input of this model"}),
        (TWO, [{"x": [1, 2]}], {"#/rows/0/t~1x": "is missing"}),
        (TWO, [[1, 2]] * 30, {f"#/rows/{it}": "must be an object of the model's inputs" for it in range(20)}),
        (TWO, [{"x": [1, 2], "t/x": 7}], {"#/rows/0/t~1x": 'must be strings, or {"b64": …} with base64'}),
        (TWO, [{"x": [1, 2], "t/x": {"b64": "?"}}], {"#/rows/0/t~1x": 'must be strings, or {"b64": …} with base64'}),
        (TWO, [{"x": [1, 2], "t/x": {"b64": "ü"}}], {"#/rows/0/t~1x": 'must be strings, or {"b64": …} with base64'}),
        (signature(("x", "UINT8", (-1,))), [256, -1, 1.5, 1] * 8, {}),
    ],
)
def test_mistakes_are_said_with_their_places(made: TensorSignature, rows: Any, places: dict[str, str]) -> None:
    with pytest.raises(TensorsInvalid) as raised:
        arrays_of(made, {"rows": rows})
    found = {place["pointer"]: place["detail"] for place in raised.value.errors}
    if places:
        assert found == places
    else:
        assert len(found) == 20
        assert found["#/rows/0"] == "must be values that UINT8 holds"
        assert found["#/rows/2"] == "must be values of UINT8"


def test_there_are_no_columns() -> None:
    with pytest.raises(RowsInvalid):
        arrays_of(ONE, {"rows": [[1, 2]], "columns": ["x"]})


def test_a_request_has_a_million_elements_at_most() -> None:
    wide = signature(("x", "BOOL", (-1, -1)))
    with pytest.raises(TensorsInvalid) as raised:
        arrays_of(wide, {"rows": [[True] * 1001] * 1000})
    assert raised.value.errors == [{"pointer": "#/rows", "detail": f"1001000 elements are more than {MAX_ELEMENTS}"}]
    for shape in ((1001, 1000), (1_000_001, 0)):
        with pytest.raises(TensorsInvalid):
            arrays_of_tensors(wide, {"x": np.zeros(shape, bool)})


def test_tensors_of_the_protocol_are_taken_as_they_are() -> None:
    numbers, words = np.ones((2, 2), np.float32), np.array(["ü", b"\xff"], object)
    arrays = arrays_of_tensors(TWO, {"t/x": words, "x": numbers})
    assert arrays["x"] is numbers
    assert arrays["t/x"].tolist() == ["ü".encode(), b"\xff"]


@pytest.mark.parametrize(
    ("tensors", "places"),
    [
        ({}, [("#/inputs", "'x' is missing"), ("#/inputs", "'t/x' is missing")]),
        (
            {"x": np.ones((1, 2), np.float32), "t/x": np.array([b""], object), "u": np.ones(1)},
            [("#/inputs", "'u' is not an input of this model")],
        ),
        (
            {"x": np.ones((1, 2)), "t/x": np.array([b""], object)},
            [("#/inputs/x", "must be of datatype FP32")],
        ),
        (
            {"x": np.ones((2, 2), np.float32), "t/x": np.array([b""], object)},
            [("#/inputs", "must have the same first dimension")],
        ),
        (
            {"x": np.ones((0, 2), np.float32), "t/x": np.array([], object)},
            [("#/inputs", "must have at least one row")],
        ),
        (
            {"x": np.ones((1, 2), np.float32), "t/x": np.array([7], object)},
            [("#/inputs/t~1x", "must be bytes")],
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: dict[str, Any], places: list[tuple[str, str]]) -> None:
    with pytest.raises(TensorsInvalid) as raised:
        arrays_of_tensors(TWO, tensors)
    assert [(place["pointer"], place["detail"]) for place in raised.value.errors] == places
