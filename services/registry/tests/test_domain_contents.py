"""ONNX files, safetensors, and what LightGBM and XGBoost write."""

import io
import struct
from typing import Any

import pytest
from model_files import LIGHTGBM, XGBOOST_UBJ, check, field, graph, onnx, refused, safetensors, tensor

from registry.domain import onnx_files
from registry.domain.documents import document_of
from registry.domain.findings import Wrong

# ONNX


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (field(1, 8) + field(8, b"") + field(7, graph()) + field(7, graph()), "not one graph"),
        (field(8, b"") + field(7, graph()), "no IR version"),
        (field(1, 8) + field(8, b"") + field(7, 3), "no protobuf of ONNX"),
        (field(1, 5000) + field(8, b"") + field(7, graph()), "no IR version"),
        (field(1, 8) + field(7, graph()), "opset"),
        (field(1, 8) + field(8, b"") + field(7, field(2, b"g")), "no outputs"),
        (onnx(field(30, 1)), "no protobuf of ONNX"),
        (onnx(inside=field(40, b"")), "no protobuf of ONNX"),
        (onnx() + b"\x0b", "no protobuf"),  # a group, which nobody writes any more
        (onnx() + b"\x72\x05ab", "cut off"),
        (onnx() + b"\xff" * 11, "no protobuf"),
        (onnx() + b"\x00\x00", "no protobuf"),
        (onnx(inside=field(5, tensor(field(13, field(1, b"location"))))), "another file"),
        (onnx(inside=field(5, tensor(field(14, 1)))), "another file"),
        (onnx(inside=field(1, field(5, field(5, tensor(field(14, 1)))))), "another file"),
        (onnx(inside=field(1, field(5, field(6, field(5, tensor(field(14, 1))))))), "another file"),
        (onnx(inside=field(15, field(1, tensor(field(14, 1))))), "another file"),
        (onnx(field(25, field(7, field(5, field(10, tensor(field(14, 1))))))), "another file"),
        (onnx(field(20, field(1, field(5, tensor(field(14, 1)))))), "another file"),
    ],
)
def test_what_is_no_whole_onnx_model_is_refused(data: bytes, why: str) -> None:
    assert why in refused("onnx", data)


def test_weights_in_the_model_are_fine_and_so_are_numbers_of_fixed_width() -> None:
    fixed = b"\x21" + b"\0" * 8 + b"\x1d" + b"\0" * 4  # of no known number in an attribute, and so stepped over
    check("onnx", onnx(inside=field(5, tensor(field(14, 0))) + field(1, field(5, fixed))))


def test_graphs_in_graphs_have_an_end() -> None:
    inner = graph()
    for _ in range(onnx_files.DEEPEST):
        inner = graph(field(1, field(5, field(6, inner))))
    assert "too deeply" in refused("onnx", onnx(inside=field(1, field(5, field(6, inner)))))


def test_the_parts_of_a_model_are_bounded() -> None:
    data = onnx(inside=field(1, b"") * 100)
    with pytest.raises(Wrong, match="more than 100 parts"):
        onnx_files.check_onnx(io.BytesIO(data), len(data), most=100)


# Weights


def one(**changes: Any) -> bytes:
    return safetensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}})


@pytest.mark.parametrize(
    "data",
    {
        "shorter than a length": b"\0" * 7,
        "a header longer than the file": struct.pack("<Q", 1 << 40) + b"{}" + b"\0" * 8,
        "no header": struct.pack("<Q", 0) + b"\0" * 8,
        "no JSON": safetensors(b"{]"),
        "no object": safetensors(b"[1]"),
        "nested without end": safetensors(b'{"a":' * 100_000),
        "a name twice": safetensors(b'{"w":{"dtype":"F32"},"w":{}}'),
        "no tensors": safetensors({}, b""),
        "no dtype": safetensors({"w": {}}),
        "a tensor that is none": safetensors({"w": 3}),
        "an unknown dtype": one(dtype="OBJECT"),
        "a dtype that is no name": one(dtype=[]),
        "no offsets": one(data_offsets=[0]),
        "a shape that is no list": one(shape="2"),
        "a negative shape": one(shape=[-2]),
        "a shape of truths": one(shape=[True, 2]),
        "an endless shape": one(shape=[1] * 40),
        "another size": one(shape=[3]),
        "an overflow": one(shape=[1 << 47, 1 << 47]),
        "a gap before": one(data_offsets=[8, 16]),
        "bytes behind": safetensors(data=b"\0" * 12),
        "bytes missing": safetensors(data=b"\0" * 4),
        "an overlap": safetensors(
            {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("a", "b")}
        ),
    }.values(),
    ids=lambda data: "",
)
def test_tensors_and_bytes_are_the_same(data: bytes) -> None:
    refused("safetensors", data)


def test_half_bytes_and_scalars_are_counted_too() -> None:
    check(
        "safetensors",
        safetensors(
            {
                "a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]},
                "b": {"dtype": "F32", "shape": [], "data_offsets": [1, 5]},
                "c": {"dtype": "I64", "shape": [0, 7], "data_offsets": [5, 5]},
            },
            b"\0" * 5,
        ),
    )


@pytest.mark.parametrize(
    "data",
    [
        LIGHTGBM.replace(b"version=v4", b"version=4"),
        LIGHTGBM.replace(b"num_class", b"classes"),
        LIGHTGBM.replace(b"feature_names=a b", b"feature_names=a\0b"),
        LIGHTGBM + b"\0",
        LIGHTGBM + b"import os",
    ],
)
def test_a_lightgbm_model_is_its_text(data: bytes) -> None:
    refused("lightgbm", data)


def test_xgboost_writes_two_formats() -> None:
    check("xgboost", XGBOOST_UBJ)
    check("xgboost", b'{\n  "version": [1, 2], "learner": {}}\n')
    check("xgboost", b"{i\x07learner{}}")
    for data in (b'{"a": 1}', b"{L" + b"\xff" * 8 + b"learner}", b"{i\x03abc}", b"binf\0\0}", b"[}", b"{Z}"):
        refused("xgboost", data)


def test_a_short_document_that_becomes_a_large_one_is_not_read() -> None:
    with pytest.raises(Wrong, match="more than 10 parts"):
        document_of(b"[" + b"[]," * 20 + b"[]]", "it", most=10)
    assert document_of(b"[1, 2]", "it") == [1, 2]
