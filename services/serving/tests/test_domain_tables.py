"""Arrow and `.npy` bodies as the arrays of a model of columns: what rows of JSON would have been."""

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kit import errors
from models import rows
from models.signature import Field, Signature
from models.tensor_signature import TensorSignature, TensorSpec
from serving.domain import tables

COLUMNS = (
    Field("distance", "number", nullable=True),
    Field("seats", "integer"),
    Field("cargo", "boolean"),
    Field("carrier", "string", nullable=True),
    Field("origin", "string"),
    Field("at", "timestamp", nullable=True),
)
SIGNATURE = Signature.of(COLUMNS, "regression")
NUMBERS = Signature.of(COLUMNS[:3], "regression")
ROWS: list[dict[str, Any]] = [
    {"distance": 1.5, "seats": 100, "cargo": True, "carrier": "B6", "origin": "JFK", "at": "2013-07-04T17:00:00Z"},
    {"distance": None, "seats": 0, "cargo": False, "carrier": None, "origin": "ü", "at": None},
]
EXPECTED = rows.arrays_of(SIGNATURE, {"rows": ROWS})


def same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def stream(**changes: Any) -> bytes:
    columns: dict[str, Any] = {name: [row[name] for row in ROWS] for name in reversed(SIGNATURE.names)}
    moments = [datetime(2013, 7, 4, 17, tzinfo=UTC), None]
    return _stream(pa.table({**columns, "at": pa.array(moments, pa.timestamp("ms", "UTC")), **changes}))


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def npy_of(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=False)
    return out.getvalue()


def test_columns_of_arrow_are_those_of_rows_in_any_order() -> None:
    same(tables.arrays_of_arrow(SIGNATURE, stream()), EXPECTED)


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        ({"seats": ["many", "few"]}, "#/seats", "numbers"),
        ({"seats": [1, None]}, "#/seats", "missing"),
        ({"origin": ["JFK", None]}, "#/origin", "null"),
        ({"carrier": pa.array([b"\xff", b"x"])}, "#/carrier", "decode"),
        ({"at": [1.5, 2.5]}, "#/at", "int64"),
    ],
)
def test_a_column_that_does_not_fit_is_named(changes: dict[str, Any], pointer: str, said: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        tables.arrays_of_arrow(SIGNATURE, stream(**changes))
    [place] = caught.value.errors
    assert place["pointer"] == pointer
    assert said in place["detail"]


def test_a_column_that_is_missing_or_too_many_is_named() -> None:
    with pytest.raises(errors.Invalid) as caught:
        tables.arrays_of_arrow(NUMBERS, _stream(pa.table({name: [1.0] for name in ("distance", "seats", "wind")})))
    assert [place["detail"] for place in caught.value.errors] == [
        "'cargo' is missing",
        "'wind' is not a column of this model",
    ]
    with pytest.raises(errors.Malformed, match="3 columns"):
        tables.arrays_of_arrow(NUMBERS, stream())


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<i8", "<u1"])
def test_an_array_has_the_columns_in_the_model_s_order(dtype: str) -> None:
    array = np.array([[1, 100, 1], [2, 0, 0]], dtype)
    expected = rows.arrays_of(NUMBERS, {"columns": list(NUMBERS.names), "rows": [[1, 100, True], [2, 0, False]]})
    same(tables.arrays_of_npy(NUMBERS, npy_of(array)), expected)
    same(tables.arrays_of_npy(NUMBERS, npy_of(np.asfortranarray(array))), expected)


def test_an_array_of_one_column_may_be_flat() -> None:
    one = Signature.of(COLUMNS[:1], "regression")
    expected = rows.arrays_of(one, {"rows": [{"distance": 1}, {"distance": None}]})
    same(tables.arrays_of_npy(one, npy_of([1, np.nan])), expected)
    same(tables.arrays_of_npy(one, npy_of([[1], [np.nan]])), expected)


@pytest.mark.parametrize(
    ("array", "pointer"),
    [
        ([1.0, 2.0, 3.0], "#"),
        ([[1.0, 2.0]], "#"),
        (1.0, "#"),
        (np.zeros((0, 3)), "#/distance"),
        ([[1.0, 1.5, 0.0]], "#/seats"),
        ([[1.0, 1.0, 2.0]], "#/cargo"),
        ([[1.0, np.nan, 1.0]], "#/seats"),
        ([[np.inf, 1.0, 1.0]], "#/distance"),
        ([[1e300, 1.0, 1.0]], "#/distance"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_with_its_place(array: Any, pointer: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        tables.arrays_of_npy(NUMBERS, npy_of(array))
    assert [place["pointer"] for place in caught.value.errors] == [pointer]


def test_more_rows_than_may_be_are_refused() -> None:
    many = _stream(pa.table({name: np.zeros(10_001) for name in NUMBERS.names}))
    for body, read in ((npy_of(np.zeros((10_001, 3))), tables.arrays_of_npy), (many, tables.arrays_of_arrow)):
        with pytest.raises(errors.Invalid, match="10000 rows at most"):
            read(NUMBERS, body)


IMAGES = TensorSignature((TensorSpec("image", "FP32", (-1, 2, 2)),), (TensorSpec("p", "FP32", (-1, 3)),))
PAIR = TensorSignature((*IMAGES.inputs, TensorSpec("text", "BYTES", (-1,))), IMAGES.outputs)


def test_a_model_of_tensors_takes_its_own_shape() -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    for given in (array, array.astype(">f4")):
        same(tables.arrays_of_npy(IMAGES, npy_of(given)), {"image": array})
    columns = {"image": pa.array(array.tolist(), pa.list_(pa.list_(pa.float32(), 2), 2)), "text": ["a", "b"]}
    found = tables.arrays_of_arrow(PAIR, _stream(pa.table(columns)))
    same({"image": found["image"]}, {"image": array})
    assert found["text"].tolist() == [b"a", b"b"]


def test_a_model_of_tensors_takes_no_other_type_or_shape() -> None:
    for wrong in (np.zeros((2, 2, 2)), np.zeros((2, 2), np.float32), np.zeros((2, 2, 3), np.float32)):
        with pytest.raises(errors.Invalid) as caught:
            tables.arrays_of_npy(IMAGES, npy_of(wrong))
        assert [place["pointer"] for place in caught.value.errors] == ["#/image"]
    with pytest.raises(errors.Invalid, match="does not fit"):
        tables.arrays_of_npy(PAIR, npy_of(np.zeros((2, 2), np.float32)))
    with pytest.raises(errors.Invalid):
        tables.arrays_of_arrow(PAIR, _stream(pa.table({"image": [1.0], "text": pa.array([None], pa.string())})))
