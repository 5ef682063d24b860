"""A request that comes again is read as it was read the first time."""

from typing import Any

import numpy as np
import pytest

from models import rows
from models.signature import Columns, Field, Signature
from models.tensor_signature import AnySignature, TensorSignature, TensorSpec
from serving.domain import layouts, tensors
from serving.domain.layouts import Layout, Layouts
from serving.domain.tensors import Asked

SIGNATURE = Signature.of([Field("a", "number"), Field("b", "number")], "regression")
VALUES = np.array([[1, 2, 3], [4, 5, 6]], "<f4")


def words(datatype: str = "FP32", shape: list[int] | None = None, size: int = 12, **more: Any) -> dict[str, Any]:
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape or [3, 1], "parameters": {"binary_data_size": size}}
        for name in "ab"
    ]
    return {"inputs": inputs, **more}


def layout_of(document: dict[str, Any], binary: bytes) -> Layout:
    made = Layout.of(document, tensors.read(document, binary))
    assert made is not None
    return made


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_columns_are_those_of_the_request_read_in_full(shape: list[int]) -> None:
    document = words(shape=shape, id="7", parameters={"binary_data_output": True})
    made = layout_of(document, VALUES[::-1].tobytes())
    assert made.asked == Asked({}, "7", None, True)
    columns = made.columns_in(SIGNATURE, VALUES.tobytes())
    expected = rows.arrays_of_tensors(SIGNATURE, tensors.read(document, VALUES.tobytes()).tensors)
    assert isinstance(columns, Columns)
    assert list(columns) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(columns[name], array)
        assert columns[name].shape == array.shape == (3, 1)
    assert columns.matrix.flags.c_contiguous


def test_tensors_are_those_of_the_request_read_in_full() -> None:
    for datatype, dtype in (("INT64", "<i8"), ("FP32", "<f4"), ("UINT8", "u1")):
        document = words(datatype, [1, 3], 3 * np.dtype(dtype).itemsize)
        binary = np.arange(6, dtype=dtype).tobytes()
        found = layout_of(document, binary).tensors_in(binary)
        assert found is not None
        for name, array in tensors.read(document, binary).tensors.items():
            np.testing.assert_array_equal(found[name], array)
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_other_bytes_than_the_words_say_are_nothing() -> None:
    made = layout_of(words(), VALUES.tobytes())
    for binary in (b"", VALUES.tobytes()[:-1], VALUES.tobytes() + b"0000"):
        assert made.tensors_in(binary) is None
        assert made.columns_in(SIGNATURE, binary) is None


def test_what_is_unusual_is_looked_at_more_closely() -> None:
    binary = VALUES.tobytes()
    made = layout_of(words(), binary)
    for value in (np.nan, np.inf):
        assert made.columns_in(SIGNATURE, np.full(6, value, "<f4").tobytes()) is None
    others: list[AnySignature] = [
        Signature.of([Field("b", "number"), Field("a", "number")], "regression"),
        Signature.of([Field("a", "number"), Field("b", "integer")], "regression"),
        TensorSignature((TensorSpec("a", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),)),
    ]
    for signature in others:
        assert made.columns_in(signature, binary) is None
    assert layout_of(words(shape=[1, 3]), binary).columns_in(SIGNATURE, binary) is None
    assert layout_of(words(shape=[0, 1], size=0), b"").columns_in(SIGNATURE, b"") is None
    assert layout_of(words("INT32"), VALUES.astype("<i4").tobytes()).columns_in(SIGNATURE, binary) is None


def test_no_layout_is_made_of_tensors_that_lie_elsewhere_or_differ() -> None:
    mixed = words()
    mixed["inputs"][0] = {"name": "a", "datatype": "FP32", "shape": [1], "data": [1], "parameters": {}}
    assert Layout.of(mixed, tensors.read(mixed, VALUES[0].tobytes())) is None
    differing = words()
    differing["inputs"][0]["datatype"] = "INT32"
    assert Layout.of(differing, tensors.read(differing, VALUES.tobytes())) is None
    truths = words("BOOL", size=3)
    assert Layout.of(truths, tensors.read(truths, bytes(6))) is None


def test_a_few_short_ones_are_kept() -> None:
    made, known = layout_of(words(), VALUES.tobytes()), Layouts()
    known.put(bytes(layouts.LONGEST + 1), made)
    assert known.get(bytes(layouts.LONGEST + 1)) is None
    for number in range(layouts.KEPT + 1):
        known.put(b"%d" % number, made)
    assert known.get(b"0") is None
    assert known.get(b"1") == known.get(b"%d" % layouts.KEPT) == made
