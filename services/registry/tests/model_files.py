"""Files of models, small and by hand: sound ones, and the parts that unsound ones are made of."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from registry.domain.formats import FormatMismatch, check_content
from registry.domain.manifests import File
from registry.testing import digest_of

LIGHTGBM = b"""tree
version=v4
num_class=1
num_tree_per_iteration=1
max_feature_idx=1
feature_names=a b

Tree=0
num_leaves=1

end of trees

parameters:
[boosting: gbdt]
end of parameters

pandas_categorical:null
"""
XGBOOST_JSON = b'{"learner":{"objective":{"name":"reg:squarederror"}},"version":[3,0,0]}'
XGBOOST_UBJ = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{}L\x00\x00\x00\x00\x00\x00\x00\x07version[]}"


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protobuf: a number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def tensor(*more: bytes, data: bytes = b"\0" * 8) -> bytes:
    return field(1, 2) + field(2, 1) + field(8, b"w") + field(9, data) + b"".join(more)


def graph(*more: bytes) -> bytes:
    value = field(1, b"x")
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    return field(1, node) + field(2, b"g") + field(11, value) + field(12, field(1, b"y")) + b"".join(more)


def onnx(*more: bytes, inside: bytes = b"", seed: int = 0) -> bytes:
    """A model that answers its input. `more` are fields of the model, `inside` those of its graph."""
    opset = field(8, field(2, 17))
    return field(1, 8) + field(5, seed) + field(7, graph(inside)) + opset + b"".join(more)


def safetensors(header: Mapping[str, Any] | bytes | None = None, data: bytes = b"\0" * 8) -> bytes:
    if header is None:
        header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def archive(files: Mapping[str, bytes | str], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as out:
        for name, content in files.items():
            out.writestr(zipfile.ZipInfo(name), content, compression)
    return packed.getvalue()


def npy(kind: str = "<f8") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,), }}".encode()
    head += b" " * (117 - len(head)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"\0" * 8


def node(
    kind: str = "ObjectNode", module: str = "sklearn.pipeline", name: str = "Pipeline", **more: Any
) -> dict[str, Any]:
    return {"__class__": name, "__module__": module, "__loader__": kind, **more}


SCHEMA = node(content=node("DictNode", "builtins", "dict", content={"coef_": node("NdArrayNode", "numpy", "ndarray", file="a.npy")}))  # fmt: skip # noqa: E501


def skops(schema: Any = SCHEMA, files: Mapping[str, bytes] | None = None) -> bytes:
    return archive({"schema.json": json.dumps(schema), **({"a.npy": npy()} if files is None else files)})


def pt2(**files: bytes) -> bytes:
    """What torch.export.save writes. `data__weights__x` is the entry data/weights/x; empty ones are left out."""
    config = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": False}}}).encode()
    made = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        ".data/serialization_id": b"1",
        "models/model.json": b"{}",
        "data/weights/model_weights_config.json": config,
        "data/weights/weight_0": b"\0" * 8,
        "data/sample_inputs/model.pt": b"",
    } | {name.replace("__", "/"): content for name, content in files.items()}
    return archive({f"model/{name}": content for name, content in made.items()})


SOUND = {
    "onnx": onnx(inside=field(5, tensor())),
    "skops": skops(),
    "pt2": pt2(),
    "safetensors": safetensors(),
    "lightgbm": LIGHTGBM,
    "xgboost": XGBOOST_JSON,
}


def check(format: str, data: bytes, name: str = "model.bin") -> None:
    file = File.model_validate({"format": format, "path": name, "digest": digest_of(data), "size": len(data)})
    check_content(file, io.BytesIO(data), "#/formats/0")


def refused(format: str, data: bytes) -> str:
    """In which words."""
    with pytest.raises(FormatMismatch) as caught:
        check(format, data)
    assert caught.value.errors[0]["pointer"] == "#/formats/0/format"
    return caught.value.detail
