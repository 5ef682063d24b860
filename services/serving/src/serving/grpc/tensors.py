"""`ModelInfer` as a request of `/v2/models/{name}/infer` with binary tensors, and its answer back."""

import math
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import orjson

from models.tensor_signature import MAX_DEPTH, MAX_ELEMENTS
from serving.domain.tensors import BYTES, DTYPES, TensorInvalid
from serving.grpc.schema import MESSAGES

PARTS = 512
"""Inputs, outputs and raw contents of a message together: an empty one takes two bytes, and a hundred in memory."""
_LENGTH = struct.Struct("<I")
_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Where typed contents are, by datatype. Of half floats there are only raw ones."""


def read(content: bytes) -> Any:
    """The message of these bytes.

    Raises:
        TensorInvalid: it has more parts than anybody needs; they would take much more memory than their bytes.
    """
    if sum(1 for _ in islice(_fields(content), PARTS + 1)) > PARTS:
        raise TensorInvalid(f"A request has {PARTS} inputs, outputs and contents at most.")
    return MESSAGES["ModelInferRequest"].FromString(content)


def body_of(request: Any) -> tuple[bytes, int]:
    """The request's body, and how much of it is JSON.

    Raises:
        TensorInvalid: contents are missing, there twice, or not what the datatype says.
    """
    raw = list(request.raw_input_contents)
    if not raw:
        raw = [_typed(given, f"#/inputs/{index}") for index, given in enumerate(request.inputs)]
    elif any(given.HasField("contents") for given in request.inputs):
        raise _wrong("#/inputs", "must have no contents where raw_input_contents are")
    elif len(raw) != len(request.inputs):
        raise _wrong("#/raw_input_contents", f"has {len(raw)} of them for {len(request.inputs)} inputs")
    document: dict[str, Any] = {
        "parameters": {"binary_data_output": True},
        "inputs": [
            {
                "name": given.name,
                "datatype": given.datatype,
                "shape": _shape(given, f"#/inputs/{index}"),
                "parameters": {"binary_data_size": len(content)},
            }
            for index, (given, content) in enumerate(zip(request.inputs, raw, strict=True))
        ],
    }
    if request.id:
        document["id"] = request.id
    if request.outputs:
        document["outputs"] = [{"name": wanted.name} for wanted in request.outputs]
    text = orjson.dumps(document)
    return b"".join([text, *raw]), len(text)


def answer_of(body: bytes, length: int) -> Any:
    """The message of an answer, of which so much is JSON."""
    said = orjson.loads(body[:length])
    answer = MESSAGES["ModelInferResponse"](
        model_name=said["model_name"], model_version=said["model_version"], id=said["id"]
    )
    for name, value in said["parameters"].items():
        answer.parameters[name].int64_param = value
    for output in said["outputs"]:
        answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = output["parameters"]["binary_data_size"]
        answer.raw_output_contents.append(body[length : length + size])
        length += size
    return answer


def _fields(content: bytes) -> Iterator[int]:
    """The number of each field of a message, as far as it can be read: what makes the message says where it cannot."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        match tag & 7:
            case 0:
                _, place = _varint(content, place)
            case 1:
                place += 8
            case 2:
                size, place = _varint(content, place)
                place += size
            case 5:
                place += 4
            case _:
                return
        yield tag >> 3


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and what comes after it."""
    found = shift = 0
    while place < len(content) and shift < 70:
        byte = content[place]
        place += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, place
        shift += 7
    return 0, len(content)


def _shape(given: Any, pointer: str) -> list[int]:
    if len(given.shape) > MAX_DEPTH:
        raise _wrong(f"{pointer}/shape", f"has more than {MAX_DEPTH} sizes")
    return list(given.shape)


def _typed(given: Any, pointer: str) -> bytes:
    """Typed contents as raw ones."""
    datatype, pointer = given.datatype, f"{pointer}/contents"
    field = _FIELDS.get(datatype)
    if field is None:
        raise _wrong(pointer, f"of {datatype[:100]!r} must be raw_input_contents")
    if any(descriptor.name != field for descriptor, _ in given.contents.ListFields()):
        raise _wrong(pointer, f"of {datatype} must be {field}")
    values = getattr(given.contents, field)
    count = math.prod(_shape(given, pointer.removesuffix("/contents")))
    if len(values) != count or count > MAX_ELEMENTS:
        raise _wrong(pointer, f"has {len(values)} elements, and the shape {list(given.shape)} others, or too many")
    if datatype == BYTES:
        return b"".join([part for value in values for part in (_LENGTH.pack(len(value)), value)])
    dtype = np.dtype(DTYPES[datatype])
    # As the field has them, which is wider than some datatypes are.
    wide = np.array(values, {"i": np.int64, "u": np.uint64}.get(dtype.kind, dtype))
    array = wide.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(array, wide):
        raise _wrong(pointer, f"has values beyond {datatype}")
    return array.tobytes()


def _wrong(pointer: str, detail: str) -> TensorInvalid:
    return TensorInvalid("The request cannot be read.", errors=[{"pointer": pointer, "detail": detail}])
