"""Rows of a request become arrays, or each mistake is named with its place."""

from typing import Any

import numpy as np
import pytest
from worlds import signature_of, world_of

from models.examples import rows_of
from models.rows import MAX_ELEMENTS, MAX_ROWS, RowsInvalid, arrays_of, arrays_of_tensors
from models.signature import MISSING_TIME, Field, Signature

COLUMNS = (
    Field("n", "number", nullable=True),
    Field("i", "integer"),
    Field("b", "boolean", nullable=True),
    Field("s/t", "string", nullable=True),
    Field("t", "timestamp", nullable=True),
)
SIGNATURE = Signature.of(COLUMNS, "regression")
GOOD = {"n": 1.5, "i": 2, "b": True, "s/t": "UA", "t": "1970-01-01T01:00:00+01:00"}
EMPTY = {"n": None, "i": 0, "b": None, "s/t": None, "t": None}


def mistakes_of(body: Any, signature: Signature = SIGNATURE) -> dict[str, str]:
    with pytest.raises(RowsInvalid) as caught:
        arrays_of(signature, body)
    return {place["pointer"]: place["detail"] for place in caught.value.errors}


def test_rows_of_objects_become_one_array_per_column() -> None:
    arrays = arrays_of(SIGNATURE, {"rows": [GOOD, EMPTY, dict(reversed(GOOD.items()))]})
    assert all(array.shape == (3, 1) for array in arrays.values())
    assert arrays["n"].dtype == arrays["i"].dtype == arrays["b"].dtype == np.float32
    np.testing.assert_array_equal(arrays["n"][:, 0], [1.5, np.nan, 1.5])
    np.testing.assert_array_equal(arrays["b"][:, 0], [1, np.nan, 1])
    assert arrays["s/t"][:, 0].tolist() == ["UA", "", "UA"]
    assert arrays["t"][:, 0].tolist() == [0, MISSING_TIME, 0]


def test_rows_of_arrays_may_have_their_columns_in_any_order() -> None:
    columns = list(reversed(GOOD))
    body = {"columns": columns, "rows": [[GOOD[name] for name in columns], [EMPTY[name] for name in columns]]}
    same = arrays_of(SIGNATURE, {"rows": [GOOD, EMPTY]})
    for name, array in arrays_of(SIGNATURE, body).items():
        np.testing.assert_array_equal(array, same[name])


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00", "1970-01-01"])
def test_a_time_without_an_offset_is_utc(time: str) -> None:
    assert arrays_of(SIGNATURE, {"rows": [GOOD | {"t": time}]})["t"].tolist() == [[0]]


def test_a_time_keeps_its_microseconds_far_from_1970() -> None:
    array = arrays_of(SIGNATURE, {"rows": [GOOD | {"t": "2250-06-01T00:00:00.000001Z"}]})["t"]
    assert array[0, 0] % 1_000_000 == 1


def test_json_has_one_kind_of_number_so_5_0_is_an_integer() -> None:
    assert arrays_of(SIGNATURE, {"rows": [GOOD | {"i": 5.0}, EMPTY]})["i"].tolist() == [[5], [0]]


def test_the_largest_number_that_float32_holds_is_taken() -> None:
    assert arrays_of(SIGNATURE, {"rows": [GOOD | {"n": 3e38}]})["n"][0, 0] == np.float32(3e38)


def test_a_string_of_4096_bytes_is_taken() -> None:
    assert arrays_of(SIGNATURE, {"rows": [GOOD | {"s/t": "x" * 4096}]})["s/t"][0, 0] == "x" * 4096


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("n", "1", "must be a number"),
        ("n", True, "must be a number"),
        ("n", float("nan"), "must be a number that float32 holds"),
        ("n", 1e39, "must be a number that float32 holds"),
        ("n", float("-inf"), "must be a number that float32 holds"),
        ("n", 10**400, "must be a number that float32 holds"),
        ("i", None, "must not be null"),
        ("i", 5.5, "must be an integer"),
        ("i", False, "must be an integer"),
        ("i", "5", "must be an integer"),
        ("b", 1, "must be true or false"),
        ("s/t", 5, "must be a string"),
        ("s/t", "x" * 4097, "must be at most 4096 bytes, without NUL"),
        ("s/t", "é" * 2049, "must be at most 4096 bytes, without NUL"),
        ("s/t", "a\0b", "must be at most 4096 bytes, without NUL"),
        ("t", 0, "must be a time such as 2013-01-31T05:00:00Z"),
        ("t", "yesterday", "must be a time such as 2013-01-31T05:00:00Z"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_place(column: str, value: Any, said: str) -> None:
    pointer = f"#/rows/1/{column.replace('/', '~1')}"
    assert mistakes_of({"rows": [GOOD, GOOD | {column: value}]}) == {pointer: said}


@pytest.mark.parametrize("kind", ["number", "boolean", "string", "timestamp"])
def test_null_is_refused_where_training_never_saw_it(kind: str) -> None:
    signature = Signature.of([Field("a~b", kind)], "regression")
    assert mistakes_of({"rows": [{"a~b": None}]}, signature) == {"#/rows/0/a~0b": "must not be null"}


def test_numbers_need_a_closer_look_only_together() -> None:
    assert mistakes_of({"rows": [GOOD | {"n": float("nan")}, EMPTY]}) == {
        "#/rows/0/n": "must be a number that float32 holds"
    }


def test_missing_and_unknown_columns_are_named() -> None:
    short = {name: value for name, value in GOOD.items() if name != "i"}
    assert mistakes_of({"rows": [GOOD, short, short | {"x": 1}, "row"]}) == {
        "#/rows/1/i": "is missing",
        "#/rows/2/i": "is missing",
        "#/rows/2/x": "is not a column of this model",
        "#/rows/3": "must be an object",
    }


def test_the_first_twenty_mistakes_are_enough() -> None:
    assert len(mistakes_of({"rows": [GOOD | {"n": "x"}] * 1000})) == 20
    assert len(mistakes_of({"rows": [{}] * 1000})) == 20


@pytest.mark.parametrize("body", [{}, {"rows": []}, {"rows": {}}, {"rows": None}])
def test_a_request_without_rows_is_invalid(body: Any) -> None:
    assert mistakes_of(body) == {"#/rows": "must be an array with at least one row"}


def test_more_than_ten_thousand_rows_are_refused_before_they_are_read() -> None:
    assert mistakes_of({"rows": [None] * (MAX_ROWS + 1)}) == {"#/rows": "10001 rows are more than 10000"}
    signature = Signature.of([Field("a", "number")], "regression")
    assert len(arrays_of(signature, {"rows": [{"a": 1}] * MAX_ROWS})["a"]) == MAX_ROWS
    with pytest.raises(RowsInvalid, match="10000 rows at most"):
        arrays_of_tensors(signature, {"a": np.zeros(MAX_ROWS + 1)})


def test_more_than_a_million_elements_are_refused_before_they_are_read() -> None:
    wide = Signature.of([Field(f"c{number}", "number") for number in range(101)], "regression")
    [detail] = mistakes_of({"rows": [None] * MAX_ROWS}, wide).values()
    assert detail == f"{MAX_ROWS} rows of 101 columns are more than {MAX_ELEMENTS} values"
    many = Signature.of([Field("a", "number")], "classification", range(101))
    [detail] = mistakes_of({"rows": [None] * MAX_ROWS}, many).values()
    assert "101 classes" in detail


@pytest.mark.parametrize("columns", [None, "n", ["n", 1]])
def test_columns_are_an_array_of_names(columns: Any) -> None:
    assert mistakes_of({"columns": columns, "rows": [[1]]}) == {"#/columns": "must be an array of names"}


def test_columns_and_rows_of_arrays_must_fit() -> None:
    assert "names a column twice" in mistakes_of({"columns": ["n", *GOOD], "rows": [[1]]})["#/columns"]
    assert "is missing" in mistakes_of({"columns": ["n"], "rows": [[1]]})["#/columns"]
    assert "not a column" in mistakes_of({"columns": [*GOOD, "x"], "rows": [[1]]})["#/columns"]
    assert mistakes_of({"columns": list(GOOD), "rows": [[1], {}]}) == {
        "#/rows/0": "must be an array of 5 values",
        "#/rows/1": "must be an array of 5 values",
    }


TENSORS = {
    "n": np.array([1.5, np.nan], np.float64),
    "i": np.array([[2], [3]], np.int64),
    "b": np.array([True, False]),
    "s/t": np.array([b"UA", "ü".encode()], object),
    "t": np.array([0, MISSING_TIME]),
}


def test_tensors_become_the_same_arrays() -> None:
    arrays = arrays_of_tensors(SIGNATURE, TENSORS)
    same = arrays_of(SIGNATURE, {"rows": [GOOD, {"n": None, "i": 3, "b": False, "s/t": "ü", "t": None}]})
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, same[name])
        assert array.dtype == same[name].dtype


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("n", np.array(["a", "b"]), "must be a tensor of numbers"),
        ("n", np.array([1e39, 0]), "must be numbers that float32 holds"),
        ("i", np.array([1.5, 2]), "must be integers"),
        ("i", np.array([np.nan, 2]), "must not have missing values"),
        ("b", np.array([0, 2]), "must be booleans, or 0 and 1"),
        ("b", np.array([1.0, np.nan, 0.5])[1:], "must be booleans, or 0 and 1"),
        ("s/t", np.array([1, 2]), "must be a tensor of strings"),
        ("s/t", np.array([1, "a"], object), "must be a string"),
        ("s/t", np.array([b"\xff", b"a"], object), "codec"),
        ("t", np.array([1.0, 2.0]), "must be an int64 tensor"),
        ("i", np.array([1, 2, 3]), "must have the shape [rows] or [rows, 1]"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(name: str, tensor: Any, said: str) -> None:
    with pytest.raises(RowsInvalid) as caught:
        arrays_of_tensors(SIGNATURE, TENSORS | {name: tensor})
    (place,) = caught.value.errors
    assert place["pointer"] == f"#/inputs/{name.replace('/', '~1')}"
    assert said in place["detail"]


def test_strings_are_never_missing_and_booleans_may_be() -> None:
    signature = Signature.of([Field("s", "string"), Field("b", "boolean", nullable=True)], "regression")
    arrays = arrays_of_tensors(signature, {"s": np.array(["", "a"]), "b": np.array([np.nan, 1.0])})
    np.testing.assert_array_equal(arrays["b"][:, 0], [np.nan, 1])


@pytest.mark.parametrize("tensor", [np.array(1.0), np.zeros(0)])
def test_a_tensor_without_rows_is_refused(tensor: Any) -> None:
    signature = Signature.of([Field("a", "number")], "regression")
    with pytest.raises(RowsInvalid):
        arrays_of_tensors(signature, {"a": tensor})


def test_tensors_for_other_columns_are_refused() -> None:
    with pytest.raises(RowsInvalid):
        arrays_of_tensors(SIGNATURE, {"n": np.zeros(1)})


def test_example_rows_make_the_same_arrays_again() -> None:
    world, signature = world_of(50), signature_of()
    again = arrays_of(signature, {"rows": rows_of(signature, world.arrays, 50)})
    for name, array in world.arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_example_rows_stay_within_a_size_and_without_a_nul() -> None:
    signature = Signature.of([Field("s", "string")], "regression")
    arrays = {"s": np.array([["x" * 100], ["a\0b"], ["y"], ["z" * 30], ["é"]], object)}
    assert [row["s"] for row in rows_of(signature, arrays, 5, max_bytes=40)] == ["y", "é"]
    assert len(rows_of(signature, arrays, 5)) == 5


def test_a_misspelt_column_is_named_with_the_one_that_is_missing() -> None:
    misspelt = {"I" if name == "i" else name: value for name, value in GOOD.items()}
    assert mistakes_of({"rows": [misspelt]}) == {
        "#/rows/0/i": "is missing",
        "#/rows/0/I": "is not a column of this model",
    }


def test_a_missing_time_is_refused_in_a_tensor_where_training_never_saw_one() -> None:
    signature = Signature.of([Field("t", "timestamp")], "regression")
    assert arrays_of_tensors(signature, {"t": np.array([5])})["t"].tolist() == [[5]]
    with pytest.raises(RowsInvalid):
        arrays_of_tensors(signature, {"t": np.array([MISSING_TIME])})
