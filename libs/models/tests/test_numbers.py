"""Rows of numbers alone: the short way gives what the long one gives, and leaves to it whatever is not just that."""

from typing import Any

import numpy as np
import pytest

from models import numbers
from models.rows import RowsInvalid, arrays_of
from models.signature import Columns, Field, Signature
from models.tensor_rows import TensorsInvalid
from models.tensor_signature import TensorSignature, TensorSpec

NAMES = ["a", "b", "c"]
SIGNATURE = Signature.of([Field(name, "number", nullable=name == "c") for name in NAMES], "regression")
MIXED = Signature.of([*SIGNATURE.inputs[:2], Field("c", "integer")], "regression")
ROWS: list[list[Any]] = [[1, 2.5, -3], [0.1, 1e30, 7], [-0.0, 123456789, 2**40]]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("known", [True, False])
def test_the_short_way_gives_what_the_long_one_gives(count: int, known: bool) -> None:
    rows = ROWS[:count]
    objects = [dict(zip(reversed(NAMES), reversed(row), strict=True)) for row in rows]
    long = arrays_of(MIXED, {"columns": NAMES, "rows": rows})
    for body in ({"columns": NAMES, "rows": rows}, {"rows": objects}):
        short = arrays_of(SIGNATURE, body, are_numbers=known)
        assert isinstance(short, Columns)
        assert not isinstance(long, Columns)
        for name in NAMES:
            np.testing.assert_array_equal(short[name], long[name])
            assert short[name].dtype == np.float32
            assert short[name].shape == (count, 1)


@pytest.mark.parametrize("value", [True, None, "1", [1], {}, 1e39, 10**400, float("inf")])
@pytest.mark.parametrize("names", [["a", "b", "c"], ["c", "b", "a"]])
def test_whatever_else_is_said_as_ever(value: Any, names: list[str]) -> None:
    for body in ({"columns": names, "rows": [[value, 1, 2], [1, 2, 3]]}, {"rows": [{"a": value, "b": 1, "c": 2}]}):
        first = names[0] if "columns" in body else "a"
        if value is None and first == "c":
            assert np.isnan(arrays_of(SIGNATURE, body)["c"][0, 0])
            continue
        with pytest.raises(RowsInvalid) as caught:
            arrays_of(SIGNATURE, body)
        assert [place["pointer"] for place in caught.value.errors] == [f"#/rows/0/{first}"]


def test_rows_that_do_not_fit_the_columns_are_said_as_ever() -> None:
    for rows in ([[1, 2], [1, 2, 3]], [[1, 2, 3], 5], [[1, 2, 3], {"a": 1, "b": 2, "c": 3}]):
        with pytest.raises(RowsInvalid):
            arrays_of(SIGNATURE, {"columns": NAMES, "rows": rows}, are_numbers=True)
    with pytest.raises(RowsInvalid):
        arrays_of(SIGNATURE, {"rows": [{"a": 1, "b": 2, "x": 3}]})


def test_of_rows_that_are_objects_nothing_is_believed() -> None:
    with pytest.raises(RowsInvalid):
        arrays_of(SIGNATURE, {"rows": [{"a": True, "b": 1, "c": 2}]}, are_numbers=True)


def test_what_is_no_number_is_no_matrix() -> None:
    assert numbers.matrix_of([[1, 2], [3, 4]], 2, are_numbers=True) is not None
    for rows in ([[1, "2"]], [[1, None]], [[1]], [[1, 2], 3], [[1, 10**400]]):
        assert numbers.matrix_of(rows, 2, are_numbers=True) is None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_a_tensor_of_floats_is_what_it_would_be_otherwise(known: bool, datatype: str) -> None:
    signature = _tensors(datatype, (-1, 3))
    wide = TensorSignature((TensorSpec("x", datatype, (-1, -1)),), signature.outputs)
    for rows in (ROWS, ROWS[:1]):
        short = arrays_of(signature, {"rows": rows}, are_numbers=known)["x"]
        long = arrays_of(wide, {"rows": rows})["x"]
        np.testing.assert_array_equal(short, long)
        assert (short.dtype, short.shape) == (long.dtype, long.shape)


def test_a_tensor_of_anything_else_is_read_as_ever() -> None:
    signature = _tensors("FP32", (-1, 2))
    assert np.isnan(arrays_of(signature, {"rows": [[None, 1]]})["x"][0, 0])
    for rows in ([[1e39, 0]], [[True, 0]], [[1]], [[1, 2], 3]):
        with pytest.raises(TensorsInvalid):
            arrays_of(signature, {"rows": rows})
    assert arrays_of(_tensors("INT32", (-1, 2)), {"rows": [[1, 2]]})["x"].dtype == np.int32


def _tensors(datatype: str, shape: tuple[int, ...]) -> TensorSignature:
    return TensorSignature((TensorSpec("x", datatype, shape),), (TensorSpec("y", "FP32", (-1,)),))


def test_columns_are_a_dictionary_of_arrays() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)

    def made() -> Columns:
        return Columns(tuple(NAMES), matrix)

    plain = {name: matrix[:, [index]] for index, name in enumerate(NAMES)}
    assert list(made()) == list(made().keys()) == NAMES
    assert (len(made()), "b" in made(), "x" in made()) == (3, True, False)
    for copied in ({**made()}, dict(made()), dict(made().items()), dict(zip(NAMES, made().values(), strict=True))):
        for name in NAMES:
            np.testing.assert_array_equal(copied[name], plain[name])
    with pytest.raises(KeyError):
        made()["x"]
    assert SIGNATURE.rows_in(made()) == SIGNATURE.rows_in(plain) == 2
