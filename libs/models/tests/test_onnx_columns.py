"""Columns that become one matrix when a model is loaded: the same answers, or the model as it was."""

from functools import cache

import numpy as np
import onnx
import pytest

from models import onnx_columns
from models.conversions import onnx_of
from models.estimators import estimator_kind, steps_of
from models.matrices import matrix_of
from models.onnx_columns import LEAST, MATRIX, merged
from models.onnx_models import OnnxModel, session_of
from models.preprocessing import pipeline_of
from models.signature import Arrays, Field, Signature

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
WIDE = LEAST + 300
"""Columns whose shape takes two bytes to write."""


def arrays_of(columns: tuple[Field, ...], rows: int) -> Arrays:
    chance = np.random.default_rng(0)
    arrays = {it.name: chance.normal(size=(rows, 1)).astype(np.float32) for it in columns}
    arrays[columns[0].name][1] = np.nan
    return arrays


@cache
def trained(width: int, last: str = "number") -> tuple[bytes, Signature, Arrays]:
    columns = (*(Field(f"x{index}", "number", nullable=True) for index in range(width - 1)), Field("last", last))
    signature = Signature.of(columns, "classification", (0, 1))
    arrays = arrays_of(columns, 60)
    if last == "timestamp":
        arrays["last"] = np.arange(60, dtype=np.int64).reshape(-1, 1) * 3_600_000_000
    kind = estimator_kind(BOOSTING, {"max_iter": 3}, "classification")
    pipeline = pipeline_of(columns, kind, {"max_iter": 3}, steps=steps_of(kind, "auto", "auto", False))
    pipeline.fit(matrix_of(signature, arrays), (arrays["x1"][:, 0] > 0).astype(int))
    return onnx_of(pipeline, signature), signature, arrays


def names(width: int) -> list[str]:
    return [f"column_{index}" for index in range(width)]


@pytest.mark.parametrize("width", [LEAST, WIDE])
def test_a_matrix_is_answered_as_its_columns_are(width: int) -> None:
    content, _, arrays = trained(width)
    made = merged(content, names(width))
    assert made is not None
    onnx.checker.check_model(onnx.load_from_string(made))
    by_column = session_of(content).run(None, dict(zip(names(width), arrays.values(), strict=True)))
    by_matrix = session_of(made).run(None, {MATRIX: np.concatenate(list(arrays.values()), axis=1)})
    for one, other in zip(by_column, by_matrix, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_of_many_columns_is_loaded_so() -> None:
    content, signature, arrays = trained(LEAST)
    model = OnnxModel(content, signature)
    assert [node.name for node in model._session.get_inputs()] == [MATRIX]
    plain = session_of(content).run(None, dict(zip(names(LEAST), arrays.values(), strict=True)))
    answer = model.predict(dict(reversed(arrays.items())))
    np.testing.assert_array_equal(answer.values, plain[0])
    np.testing.assert_array_equal(answer.scores, plain[1])


def test_what_begins_otherwise_stays_as_it_is() -> None:
    content, _, _ = trained(LEAST)
    few, _, _ = trained(3)
    times, signature, arrays = trained(LEAST, "timestamp")
    model = onnx.load_from_string(content)
    model.graph.node[0].attribute[0].i = 0
    other_axis = model.SerializeToString()
    model.graph.node[0].op_type = "Sum"
    other_node = model.SerializeToString()
    for given, width in ((few, 3), (times, LEAST), (content, LEAST + 1), (other_axis, LEAST), (other_node, LEAST)):
        assert merged(given, names(width)) is None
    assert OnnxModel(times, signature).predict(arrays).values.shape == (60,)


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\x05ab", b"\x3b", b"\x80", b"\x3a\x00\x3a\x00", b"nonsense"])
def test_bytes_that_are_no_model_stay_as_they_are(content: bytes) -> None:
    assert merged(content, names(LEAST)) is None


def test_fields_of_fixed_size_are_carried_along() -> None:
    content, _, _ = trained(LEAST)
    fixed = b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)  # fields 127 that nobody knows
    made = merged(content + fixed, names(LEAST))
    assert made is not None
    assert made.endswith(fixed)
    assert list(onnx_columns._fields(fixed)) == [(127, 1, bytes(8)), (127, 5, bytes(4))]
