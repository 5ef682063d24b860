"""Tensors of the Open Inference Protocol: JSON and binary ones in, named arrays, and the way back."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import errors
from models.signature import Field, Prediction, require_finite
from models.tensor_rows import KINDS as _NUMBERS
from models.tensor_signature import BYTES as BYTES
from models.tensor_signature import DTYPES as DTYPES
from models.tensor_signature import MAX_DEPTH, MAX_ELEMENTS, AnySignature, TensorSignature, elements_of

_LENGTH = struct.Struct("<I")
_KINDS: Mapping[str, frozenset[type]] = {
    **_NUMBERS,
    "s": frozenset({str}),
}


class TensorInvalid(errors.Invalid):
    """A request of the protocol that cannot be read."""


@dataclass(frozen=True)
class Output:
    """An output as it is asked for."""

    name: str
    binary: bool


@dataclass(frozen=True)
class Asked:
    """A request, read."""

    tensors: dict[str, NDArray[Any]]
    id: str | None = None
    outputs: tuple[Output, ...] | None = None
    """None: all of them."""
    binary: bool = False
    """How the outputs go that are not named."""


@dataclass(frozen=True)
class Tensor:
    """An output."""

    name: str
    datatype: str
    array: NDArray[Any] = field(compare=False)


def read(document: Any, binary: bytes) -> Asked:
    """A request from its JSON, and the bytes behind it.

    Raises:
        TensorInvalid: it is not one; the detail says why.
    """
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise _wrong("#/inputs", "must be an array of tensors")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _wrong("#/id", "must be a string")
    tensors: dict[str, NDArray[Any]] = {}
    start = 0
    for index, given in enumerate(document["inputs"]):
        pointer = f"#/inputs/{index}"
        name = _name(given, pointer)
        if name in tensors:
            raise _wrong(pointer, f"names {name[:100]!r} twice")
        size = _binary_size(given, pointer)
        if size is None:
            tensors[name] = _from_json(given, pointer)
        else:
            tensors[name] = _from_bytes(given, binary[start : start + size], size, pointer)
            start += size
    if start != len(binary):
        raise _wrong("#/inputs", f"describe {start} bytes of binary data, and {len(binary)} came")
    default = _parameters(document, "#").get("binary_data_output", False)
    return Asked(tensors, identity, _outputs(document.get("outputs"), default is True), default is True)


def read_raw(signature: AnySignature, body: bytes) -> Asked:
    """A body that is nothing but the one tensor of a model with one input; one size may follow from its bytes."""
    described = inputs_of(signature)
    if len(described) != 1:
        raise _wrong("#", "only a model with one input takes a body without a JSON header")
    [(name, datatype, sizes)] = described
    if datatype == BYTES:
        return Asked({name: _texts([body]).reshape([1] * len(sizes))}, binary=True)
    if sizes.count(-1) > 1:
        raise _wrong("#", f"only a header can say which of the shapes {sizes} this is")
    known = np.dtype(DTYPES[datatype]).itemsize * math.prod(size for size in sizes if size != -1)
    given = {"shape": [len(body) // known if size == -1 else size for size in sizes], "datatype": datatype}
    return Asked({name: _from_bytes(given, body, len(body), "#")}, binary=True)


def inputs_of(signature: AnySignature) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape of each input; -1 stands for what may vary."""
    if isinstance(signature, TensorSignature):
        return [(it.name, it.datatype, list(it.shape)) for it in signature.inputs]
    return [(column.name, datatype_of(column), [-1, 1]) for column in signature.inputs]


def datatype_of(column: Field) -> str:
    """How a column is best sent. Where a value may be missing, NaN says so, which only floats can."""
    match column.type:
        case "string":
            return BYTES
        case "timestamp":
            return "INT64"
        case "integer" if not column.nullable:
            return "INT64"
        case "boolean" if not column.nullable:
            return "BOOL"
    return "FP32"


def outputs_of(signature: AnySignature) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape of each output; -1 stands for the rows, or what else may vary."""
    if isinstance(signature, TensorSignature):
        return [(it.name, it.datatype, list(it.shape)) for it in signature.outputs]
    if signature.task == "regression":
        return [("value", "FP64", [-1])]
    label = {"string": BYTES, "boolean": "BOOL"}.get(signature.outputs[0].type, "INT64")
    outputs = [("label", label, [-1]), ("score", "FP64", [-1]), ("probabilities", "FP64", [-1, len(signature.classes)])]
    return outputs if signature.scored else outputs[:1]


def tensors_of(signature: AnySignature, prediction: Prediction) -> list[Tensor]:
    """The answers as tensors, all of them: the values are those of the JSON answer, to the last bit."""
    described = outputs_of(signature)
    if isinstance(signature, TensorSignature):
        made = signature.tensors_of(prediction)
        return [Tensor(name, datatype, made[name]) for name, datatype, _ in described]
    if signature.task == "regression":
        require_finite(prediction.values)
        arrays = [np.asarray(prediction.values, np.float64)]
    else:
        texts = described[0][1] == BYTES
        arrays = [np.array(signature.labels_of(prediction), object if texts else DTYPES[described[0][1]])]
        if prediction.scores is not None:
            require_finite(prediction.scores)
            scores = np.asarray(prediction.scores, np.float64)
            arrays += [scores[:, 1] if len(signature.classes) == 2 else scores.max(axis=1), scores]
    return [Tensor(name, datatype, array) for (name, datatype, _), array in zip(described, arrays, strict=True)]


def write(tensors: Sequence[Tensor], asked: Asked) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The outputs as JSON, and the bytes behind it of those that go as bytes.

    Raises:
        TensorInvalid: an output is asked for that there is not.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    wanted = asked.outputs
    if wanted is None:
        wanted = tuple(Output(name, asked.binary) for name in by_name)
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for index, output in enumerate(wanted):
        tensor = by_name.get(output.name)
        if tensor is None:
            raise _wrong(f"#/outputs/{index}", f"the model has no output {output.name[:100]!r}")
        said: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}
        if output.binary:
            raw = _packed(tensor)
            described.append({**said, "parameters": {"binary_data_size": len(raw)}})
            parts.append(raw)
        else:
            described.append({**said, "data": _listed(tensor, f"#/outputs/{index}")})
    return described, parts


def _outputs(given: Any, default: bool) -> tuple[Output, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise _wrong("#/outputs", "must be an array")
    outputs = []
    for index, output in enumerate(given):
        pointer = f"#/outputs/{index}"
        binary = _parameters(output, pointer).get("binary_data", default)
        outputs.append(Output(_name(output, pointer), binary is True))
    return tuple(outputs)


def _name(given: Any, pointer: str) -> str:
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str):
        raise _wrong(pointer, "must be an object with a name")
    return name


def _parameters(given: Any, pointer: str) -> Mapping[str, Any]:
    parameters = given.get("parameters", {}) if isinstance(given, dict) else {}
    if not isinstance(parameters, dict):
        raise _wrong(f"{pointer}/parameters", "must be an object")
    return parameters


def _binary_size(given: Mapping[str, Any], pointer: str) -> int | None:
    size = _parameters(given, pointer).get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0 or "data" in given:
        raise _wrong(pointer, "has a binary_data_size that is no size, or data beside it")
    return size


def _shape(given: Mapping[str, Any], pointer: str) -> tuple[int, ...]:
    shape = given.get("shape")
    good = isinstance(shape, list) and len(shape) <= MAX_DEPTH and all(type(it) is int and it >= 0 for it in shape)
    if not good or not isinstance(shape, list):
        raise _wrong(f"{pointer}/shape", "must be an array of sizes")
    if elements_of(shape) > MAX_ELEMENTS:
        raise _wrong(f"{pointer}/shape", f"has more than {MAX_ELEMENTS} elements")
    return tuple(shape)


def _dtype(given: Mapping[str, Any], pointer: str) -> str | None:
    """NumPy's name of the datatype; None for bytes."""
    datatype = given.get("datatype")
    if datatype == BYTES:
        return None
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise _wrong(f"{pointer}/datatype", f"must be one of {', '.join([*DTYPES, BYTES])}")
    return DTYPES[datatype]


def _from_json(given: Mapping[str, Any], pointer: str) -> NDArray[Any]:
    shape, dtype = _shape(given, pointer), _dtype(given, pointer)
    data = given.get("data")
    if not isinstance(data, list):
        raise _wrong(f"{pointer}/data", "must be an array")
    for _ in range(len(shape) - 1):
        if not data or not all(isinstance(item, list) for item in data):
            break  # flat, which the protocol allows as well
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise _wrong(f"{pointer}/data", f"has {len(data)} elements, and the shape {list(shape)} others")
    kind = "s" if dtype is None else np.dtype(dtype).kind
    if not set(map(type, data)) <= _KINDS[kind]:
        raise _wrong(f"{pointer}/data", f"has values that are not {given['datatype']}")
    if dtype is None:
        return _texts(data).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            array = np.array(data, dtype).reshape(shape)
    except OverflowError:
        raise _wrong(f"{pointer}/data", f"has values beyond {given['datatype']}") from None
    if kind == "f" and np.isinf(array).any():
        raise _wrong(f"{pointer}/data", f"has values beyond {given['datatype']}")
    return array


def _from_bytes(given: Mapping[str, Any], raw: bytes, size: int, pointer: str) -> NDArray[Any]:
    shape, dtype = _shape(given, pointer), _dtype(given, pointer)
    if len(raw) != size:
        raise _wrong(pointer, f"describes {size} bytes, and fewer came")
    if dtype is None:
        return _texts(_unpacked(raw, math.prod(shape), pointer)).reshape(shape)
    if len(raw) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise _wrong(pointer, f"has {len(raw)} bytes, and the shape {list(shape)} takes others")
    if dtype == "?":
        return np.frombuffer(raw, np.uint8).astype(bool).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def _unpacked(raw: bytes, count: int, pointer: str) -> list[bytes]:
    """Elements, each behind its length."""
    found: list[bytes] = []
    start = 0
    while start + _LENGTH.size <= len(raw) and len(found) < count:
        [size] = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        found.append(raw[start : start + size])
        start += size
    if start != len(raw) or len(found) != count:
        raise _wrong(pointer, "has lengths that do not fit its bytes or its shape")
    return found


def _texts(values: Sequence[str | bytes]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _packed(tensor: Tensor) -> bytes:
    if tensor.datatype != BYTES:
        return np.ascontiguousarray(tensor.array, DTYPES[tensor.datatype]).tobytes()
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in tensor.array.ravel()]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in texts))


def _listed(tensor: Tensor, pointer: str) -> list[Any]:
    data = tensor.array.ravel().tolist()
    if tensor.datatype != BYTES:
        return data
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in data]
    except UnicodeDecodeError:
        detail = f"{tensor.name[:100]!r} holds bytes that are no text: ask for it with the parameter binary_data"
        raise _wrong(pointer, detail) from None


def _wrong(pointer: str, detail: str) -> TensorInvalid:
    return TensorInvalid("The request cannot be read.", errors=[{"pointer": pointer, "detail": detail}])
