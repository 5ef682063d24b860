"""Requests of KServe V1 and of MLflow, which mean the same as rows of ours."""

import json
from typing import Any

import numpy as np
import pytest

from kit import errors
from models import rows
from models.signature import Arrays, Field, Signature
from models.tensor_signature import TensorSignature, TensorSpec
from serving.domain import instances

COLUMNS = (
    Field("distance", "number"),
    Field("seats", "integer"),
    Field("cargo", "boolean", nullable=True),
    Field("carrier", "string", nullable=True),
    Field("at", "timestamp"),
)
SIGNATURE = Signature.of(COLUMNS, "regression")
ONE = Signature.of(COLUMNS[:1], "regression")
NAMES = list(SIGNATURE.names)
ROWS: list[dict[str, Any]] = [
    {"distance": 1069.5, "seats": 100, "cargo": True, "carrier": "B6", "at": "2013-07-04T17:00:00Z"},
    {"distance": 2, "seats": 0, "cargo": None, "carrier": None, "at": "2013-07-04T18:00:00Z"},
]
LISTS = [list(row.values()) for row in ROWS]
BY_COLUMN = {name: [row[name] for row in ROWS] for name in NAMES}
EXPECTED = rows.arrays_of(SIGNATURE, {"rows": ROWS})


def same(found: Arrays, expected: Arrays = EXPECTED) -> bool:
    assert found.keys() == expected.keys()
    return all(
        np.array_equal(array, expected[name], equal_nan=array.dtype.kind == "f") for name, array in found.items()
    )


def places(error: errors.Invalid) -> list[str]:
    return [place["pointer"] for place in error.errors]


@pytest.mark.parametrize(
    "document",
    [
        {"instances": ROWS},
        {"instances": LISTS},
        {"dataframe_records": ROWS},
        {"dataframe_split": {"columns": NAMES, "data": LISTS}},
        {"dataframe_split": {"columns": NAMES[::-1], "index": [7, 8], "data": [row[::-1] for row in LISTS]}},
        {"inputs": BY_COLUMN},
        {"inputs": ROWS, "params": None},
        {"inputs": LISTS, "params": {}},
        {"instances": BY_COLUMN},
    ],
)
def test_all_forms_of_mlflow_say_the_same(document: dict[str, Any]) -> None:
    assert same(instances.arrays_of_mlflow(SIGNATURE, document))


@pytest.mark.parametrize("document", [{"instances": ROWS}, {"signature_name": "predict", "instances": LISTS}])
def test_instances_of_v1_are_rows(document: dict[str, Any]) -> None:
    assert same(instances.arrays_of_v1(SIGNATURE, document))


def test_of_one_column_the_values_are_enough() -> None:
    expected = rows.arrays_of(ONE, {"rows": [{"distance": 1}, {"distance": 2}]})
    for given in ([1, 2], [[1], [2]], [{"distance": 1}, {"distance": 2}]):
        assert same(instances.arrays_of_v1(ONE, {"instances": given}), expected)


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ([], ["#"]),
        ({}, ["#/instances"]),
        ({"instances": []}, ["#/instances"]),
        ({"instances": {}}, ["#/instances"]),
        ({"rows": ROWS}, ["#/rows"]),
        ({"instances": [{}]}, [f"#/instances/0/{name}" for name in NAMES]),
        ({"instances": [{**ROWS[0], "distance": "far"}]}, ["#/instances/0/distance"]),
        ({"instances": [LISTS[0], LISTS[0][:2]]}, ["#/instances/1"]),
        ({"instances": [LISTS[0], ROWS[0]]}, ["#/instances/1"]),
        ({"instances": [1, 2]}, ["#/instances/0", "#/instances/1"]),
    ],
)
def test_what_is_wrong_with_instances_is_said_at_its_place(document: Any, pointers: list[str]) -> None:
    with pytest.raises(errors.Invalid) as caught:
        instances.arrays_of_v1(SIGNATURE, document)
    assert places(caught.value) == pointers


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        (7, ["#"]),
        ({}, ["#"]),
        ({"inputs": ROWS, "instances": ROWS}, ["#"]),
        ({"inputs": ROWS, "params": {"temperature": 1}}, ["#/params"]),
        ({"frames": ROWS}, ["#/frames"]),
        ({"dataframe_split": ROWS}, ["#/dataframe_split"]),
        ({"dataframe_split": {"columns": NAMES, "rows": []}}, ["#/dataframe_split"]),
        ({"dataframe_split": {"columns": "distance", "data": LISTS}}, ["#/dataframe_split/columns"]),
        ({"dataframe_split": {"columns": NAMES, "data": [[1]]}}, ["#/dataframe_split/data/0"]),
        ({"dataframe_records": {}}, ["#/dataframe_records"]),
        ({"inputs": {}}, ["#/inputs"]),
        ({"inputs": {**BY_COLUMN, "distance": 1}}, ["#/inputs"]),
        ({"inputs": {**BY_COLUMN, "distance": [1]}}, ["#/inputs"]),
        ({"inputs": {name: [] for name in NAMES}}, ["#/inputs"]),
        ({"inputs": {name: [1] * 10_001 for name in NAMES}}, ["#/inputs"]),
        ({"inputs": {**BY_COLUMN, "distance": [1, "far"]}}, ["#/inputs/1/distance"]),
    ],
)
def test_what_is_wrong_with_a_frame_is_said_at_its_place(document: Any, pointers: list[str]) -> None:
    with pytest.raises(errors.Invalid) as caught:
        instances.arrays_of_mlflow(SIGNATURE, document)
    assert places(caught.value) == pointers


def csv_of(*lines: str) -> bytes:
    return "\r\n".join([",".join(NAMES), *lines]).encode()


def test_a_csv_is_read_by_the_types_of_the_columns() -> None:
    content = csv_of('1069.5,100,True,"B6",2013-07-04T17:00:00Z', "2,0.0,,,2013-07-04T18:00:00Z", "")
    assert same(instances.arrays_of_csv(SIGNATURE, content))
    assert same(instances.arrays_of_csv(SIGNATURE, b"\xef\xbb\xbf" + content))
    texts = instances.arrays_of_csv(SIGNATURE, csv_of("1e3,-5,0,NA,2013-07-04T17:00:00Z"))
    assert (texts["distance"][0, 0], texts["seats"][0, 0], texts["carrier"][0, 0]) == (1000, -5, "NA")


@pytest.mark.parametrize(
    ("line", "pointers"),
    [
        ("far,1,1,B6,2013-07-04T17:00:00Z", ["#/rows/0/distance"]),
        ("1_0,1,1,B6,2013-07-04T17:00:00Z", ["#/rows/0/distance"]),
        ("inf,1,1,B6,2013-07-04T17:00:00Z", ["#/rows/0/distance"]),
        (f"{'9' * 5000},1,1,B6,2013-07-04T17:00:00Z", ["#/rows/0/distance"]),
        ("NaN,1,1,B6,2013-07-04T17:00:00Z", ["#/rows/0/distance"]),
        ("1,1.5,maybe,B6,", ["#/rows/0/seats", "#/rows/0/cargo", "#/rows/0/at"]),
        ("1,1", ["#/rows/0"]),
        ("1,1,1,B6,2013-07-04T17:00:00Z,more", ["#/rows/0"]),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_with_its_places(line: str, pointers: list[str]) -> None:
    with pytest.raises(errors.Invalid) as caught:
        instances.arrays_of_csv(SIGNATURE, csv_of(line))
    assert places(caught.value) == pointers


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"a', b'distance\n"1"x', b"a" * 200_000])
def test_what_is_no_csv_is_malformed(content: bytes) -> None:
    with pytest.raises((errors.Malformed, errors.Invalid)):
        instances.arrays_of_csv(SIGNATURE, content)


def test_a_csv_of_more_rows_than_may_be_is_not_read_to_its_end() -> None:
    content = b"distance\n" + b"1\n" * 2_000_000
    with pytest.raises(errors.Invalid, match="10000 rows at most"):
        instances.arrays_of_csv(ONE, content)
    with pytest.raises(errors.Invalid):
        instances.arrays_of_csv(ONE, b"")


def test_answers_of_one_thing_are_that_thing() -> None:
    assert instances.plain([{"value": 1.5}, {"value": 2.5}]) == [1.5, 2.5]
    assert instances.plain([{"label": True, "score": 0.5}]) == [{"label": True, "score": 0.5}]
    assert json.dumps(instances.plain([])) == "[]"


PAIR = TensorSignature(
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "BYTES", (-1,))), (TensorSpec("z", "FP32", (-1,)),)
)
SINGLE = TensorSignature(PAIR.inputs[:1], PAIR.outputs)


def test_instances_of_a_model_of_tensors_are_its_rows() -> None:
    given: list[Any] = [[[1, 2], [3, 4]], [{"x": [1, 2]}, {"x": [3, 4]}]]
    for them in given:
        assert instances.arrays_of_v1(SINGLE, {"instances": them})["x"].tolist() == [[1, 2], [3, 4]]
    for document in (
        {"inputs": {"x": [[1, 2], [3, 4]], "y": ["a", "b"]}},
        {"instances": [{"x": [1, 2], "y": "a"}, {"x": [3, 4], "y": "b"}]},
        {"dataframe_records": [{"x": [1, 2], "y": "a"}, {"x": [3, 4], "y": "b"}]},
    ):
        found = instances.arrays_of_mlflow(PAIR, document)
        assert (found["x"].tolist(), found["y"].tolist()) == ([[1, 2], [3, 4]], [b"a", b"b"])


def test_a_model_of_tensors_takes_no_table() -> None:
    with pytest.raises(errors.Invalid, match="cannot be read"):
        instances.arrays_of_csv(SINGLE, b"x\n1\n")
    with pytest.raises(errors.Invalid) as caught:
        instances.arrays_of_mlflow(SINGLE, {"dataframe_split": {"columns": ["x"], "data": [[1]]}})
    assert places(caught.value) == ["#/dataframe_split/columns"]
