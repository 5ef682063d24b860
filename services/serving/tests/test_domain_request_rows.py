"""What the request log keeps of a request, and of which."""

import json
import math
from typing import Any

import numpy as np
import pytest
from worlds import COLUMNS, rows

from models.rows import arrays_of
from models.signature import Arrays, Prediction, Signature
from models.tensor_signature import AnySignature, TensorSignature
from serving.domain.allowances import Allowance
from serving.domain.request_rows import COLUMNS as LOGGED
from serving.domain.request_rows import FIXED, Kept, Logged, by_place, is_sampled

SIGNATURE = Signature.of(COLUMNS, "regression")
TENSORS = TensorSignature.from_json(
    {
        "kind": "tensors",
        "classes": [],
        "inputs": [
            {"name": "pixels", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "said", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "logits", "datatype": "FP16", "shape": [-1, 2]}],
    }
)


def answers(count: int) -> Prediction:
    return Prediction(np.arange(count, dtype=np.float32) / 10, None)


def kept(asked: list[dict[str, Any]], most: int = 1 << 20) -> Kept:
    return Kept.of(SIGNATURE, arrays_of(SIGNATURE, {"rows": asked}), len(asked), answers(len(asked)), most)


def test_who_is_sampled_is_said_by_the_id_alone_and_the_share_is_kept() -> None:
    ids = [f"request-{n}" for n in range(4000)]
    tenth = [it for it in ids if is_sampled(it, 0.1)]
    assert 300 < len(tenth) < 500
    assert tenth == [it for it in ids if is_sampled(it, 0.1)]
    assert set(tenth) <= {it for it in ids if is_sampled(it, 0.2)}
    assert not [it for it in ids if is_sampled(it, 0)]
    assert all(is_sampled(it, 1) for it in ids)


def test_inputs_are_rows_that_can_be_asked_again() -> None:
    asked = rows(60)
    found = json.loads(kept(asked).inputs)
    # A text that is missing is an empty one to the model, and so it is here.
    assert found == [
        {name: "" if name == "carrier" and it is None else it for name, it in row.items()} for row in asked
    ]
    again, before = arrays_of(SIGNATURE, {"rows": found}), arrays_of(SIGNATURE, {"rows": asked})
    for name in again:
        np.testing.assert_array_equal(again[name], before[name])


def test_what_is_missing_is_null_in_every_type() -> None:
    arrays: Arrays = {
        "distance": np.array([[math.nan]], np.float32),
        "wind/kt": np.array([[0.1]], np.float32),
        "seats": np.array([[math.nan]], np.float32),
        "cargo": np.array([[math.nan]], np.float32),
        "carrier": np.array([[""]], object),
        "at": np.array([[np.iinfo(np.int64).min]]),
    }
    [row] = json.loads(Kept.of(SIGNATURE, arrays, 1, None, 1000).inputs)
    assert row == {"distance": None, "wind/kt": 0.1, "seats": None, "cargo": None, "carrier": "", "at": None}
    arrays["at"] = np.array([[2**62]])
    assert json.loads(Kept.of(SIGNATURE, arrays, 1, None, 1000).inputs)[0]["at"] == str(2**62)


def test_outputs_are_what_predict_answers() -> None:
    asked = kept(rows(2))
    assert json.loads(asked.outputs) == [{"value": 0.0}, {"value": pytest.approx(0.1)}]
    signature = Signature.of(COLUMNS, "classification", (False, True))
    arrays = arrays_of(signature, {"rows": rows(3)})
    prediction = Prediction(np.array([True, False, True]), np.array([[0.25, 0.75], [1, 0], [0, 1]]))
    found = Kept.of(signature, arrays, 3, prediction, 1 << 20)
    assert json.loads(found.outputs) == signature.answers_of(prediction)
    assert Kept.of(signature, arrays, 3, None, 1 << 20).outputs == "[]"


@pytest.mark.parametrize(("most", "count"), [(10, 0), (200, 1), (1000, 10), (1 << 20, 20)])
def test_only_so_many_rows_are_kept_as_fit(most: int, count: int) -> None:
    found = kept(rows(20), most)
    assert abs(found.rows - count) <= 2
    assert len(json.loads(found.inputs)) == len(json.loads(found.outputs)) == found.rows
    assert found.size <= 2 * most
    assert (found.rows == 0) == (count == 0)


def test_what_is_kept_holds_nothing_of_a_large_request() -> None:
    large = np.zeros((10_000, 1), np.float32)
    signature = Signature.of(COLUMNS[:1], "regression")
    found = Kept.of(signature, {"distance": large}, 10_000, answers(10_000), 400)
    assert found.rows == 100
    assert found.prediction is not None
    assert found.arrays["distance"].base is None
    assert found.prediction.values.base is None


def test_tensors_are_nested_and_bytes_are_texts() -> None:
    signature: AnySignature = TENSORS
    arrays: Arrays = {
        "pixels": np.array([[0.1, 2], [3, math.inf]], np.float32),
        "said": np.array([[b"\xff"], [b"b"]], object),
    }
    prediction = Prediction(np.zeros(0), None, {"logits": np.array([[1, 2], [3, 4]], np.float16)})
    found = Kept.of(signature, arrays, 2, prediction, 1 << 20)
    assert json.loads(found.inputs) == [
        {"pixels": [0.1, 2.0], "said": ["\\xff"]},
        {"pixels": [3.0, None], "said": ["b"]},
    ]
    assert json.loads(found.outputs) == [{"logits": [1.0, 2.0]}, {"logits": [3.0, 4.0]}]
    half = {"pixels": arrays["pixels"].astype(np.float16)}
    assert json.loads(Kept.of(signature, half, 2, prediction, 1 << 20).inputs)[1] == {"pixels": [3.0, None]}
    # An output that does not have a row for each is kept whole, or not at all.
    once = Prediction(np.zeros(0), None, {"logits": np.ones((1, 2), np.float16)})
    whole = Kept.of(signature, arrays, 2, once, 1 << 20).prediction
    assert whole is not None
    assert whole.tensors is not None
    assert whole.tensors["logits"].shape == (1, 2)


def test_text_that_is_none_takes_no_others_with_it() -> None:
    bad = Kept.of(Signature.of(COLUMNS[4:5], "regression"), {"carrier": np.array([["\ud800"]], object)}, 1, None, 1000)
    assert bad.inputs == "[]"
    odd = Kept.of(Signature.of(COLUMNS[4:5], "regression"), {"carrier": np.array([[1 + 2j]], object)}, 1, None, 1000)
    assert odd.inputs == "[]"


def said(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {column.name: 0 for column in LOGGED if column.name not in {"time", "inputs", "outputs"}}
    return values | {"project": "demo", "deployment": "late"} | more


def test_a_row_has_a_value_for_each_column_also_of_a_body_that_was_not_understood() -> None:
    logged = Logged(1_764_075_907.5, said(rows=2), kept(rows(2)))
    found = dict(zip([it.name for it in LOGGED], logged.row(), strict=True))
    assert (found["time"], found["rows"], found["rows_kept"]) == (1_764_075_907_500_000, 2, 2)
    assert json.loads(found["inputs"])[0]["seats"] == rows(1)[0]["seats"]
    assert logged.size > FIXED
    bare = Logged(0.0, said(), None)
    found = dict(zip([it.name for it in LOGGED], bare.row(), strict=True))
    assert (found["inputs"], found["outputs"], found["rows_kept"], bare.size) == ("[]", "[]", 0, FIXED)


def test_a_file_is_of_one_project_deployment_and_hour() -> None:
    first = Logged(1_764_075_907.5, said(), None)
    later = Logged(first.at + 3600, said(), None)
    others = Logged(first.at, said(project="other"), None)
    again = Logged(first.at + 1, said(), None)
    assert dict(by_place([first, later, others, again])) == {
        ("demo", "late", "2025-11-25T13"): [first, again],
        ("demo", "late", "2025-11-25T14"): [later],
        ("other", "late", "2025-11-25T13"): [others],
    }


def test_a_flood_is_allowed_so_much_and_what_was_withheld_is_said() -> None:
    lines = Allowance(2, 5.0)
    assert [lines.take(100.0) for _ in range(4)] == [True, True, False, False]
    assert not lines.take(104.0)
    assert lines.take(105.5)
    assert (lines.told(), lines.told()) == (3, 0)
    assert [lines.take(1000.0) for _ in range(3)] == [True, True, False]
