"""The signature of a model that takes and gives tensors, as the Open Inference Protocol describes them.

Numbers are arrays of exactly the datatype that the signature names, little-endian; BYTES are object arrays of `bytes`.
A dimension of -1 may have any size. If the first one of every tensor is -1, it counts what is answered together, the
rows: such a model is batched, and has the answer to each row at that row's place. Any other is asked as a whole.
"""

import math
from base64 import b64encode
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kit import errors
from models.signature import Arrays, ModelOutputInvalid, Prediction, Signature, require_finite

BYTES = "BYTES"
DTYPES: Mapping[str, str] = {
    "BOOL": "?",
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
MAX_TENSORS = 64
"""Of one request, and of one answer."""
MAX_DEPTH = 8
MAX_ELEMENTS = 1_000_000
"""Of all tensors of one request."""
MAX_NAME = 256
MAX_SIZE = 2**31 - 1
NOTHING: NDArray[Any] = np.empty(0)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that goes in, or one that comes out."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if type(self.name) is not str or not 0 < len(self.name) <= MAX_NAME:
            raise errors.Invalid(f"A tensor has a name of 1 to {MAX_NAME} characters.")
        if self.datatype != BYTES and self.datatype not in DTYPES:
            known = ", ".join([*DTYPES, BYTES])
            raise errors.Invalid(f"The datatype of {self.name!r} is {self.datatype!r}; known are {known}.")
        good = len(self.shape) <= MAX_DEPTH and all(type(it) is int and -1 <= it <= MAX_SIZE for it in self.shape)
        if not good or 0 in self.shape:
            raise errors.Invalid(f"The shape of {self.name!r} has at most {MAX_DEPTH} sizes, each of 1 or more, or -1.")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What a later release adds to it is left alone."""
        return cls(value["name"], value["datatype"], tuple(value["shape"]))

    def to_json(self) -> dict[str, Any]:
        """`{"name", "datatype", "shape"}`."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its arrays."""
        return np.dtype(object if self.datatype == BYTES else DTYPES[self.datatype])

    def misfit(self, array: NDArray[Any]) -> str:
        """What is wrong with an array of it; "" is nothing."""
        if array.dtype != self.dtype:
            return f"must be of datatype {self.datatype}"
        if len(array.shape) != len(self.shape) or any(
            known not in (-1, found) for known, found in zip(self.shape, array.shape, strict=True)
        ):
            return f"has the shape {list(array.shape)}, and {list(self.shape)} is expected"
        return ""


@dataclass(frozen=True)
class TensorSignature:
    """The tensors of a model, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: Literal["tensors"] = "tensors"
    classes: tuple[Any, ...] = ()
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    is_batched: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for tensors, what in ((self.inputs, "input"), (self.outputs, "output")):
            if not 0 < len(tensors) <= MAX_TENSORS or len({it.name for it in tensors}) != len(tensors):
                raise errors.Invalid(f"A signature has 1 to {MAX_TENSORS} {what}s, and names each of them once.")
        if self.classes:
            raise errors.Invalid("A signature of tensors has no classes.")
        object.__setattr__(self, "names", tuple(it.name for it in self.inputs))
        batched = all(it.shape[:1] == (-1,) for it in (*self.inputs, *self.outputs))
        object.__setattr__(self, "is_batched", batched)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """From the registry's JSON; anything else is Invalid."""
        try:
            inputs = tuple(map(TensorSpec.from_json, value["inputs"]))
            return cls(inputs, tuple(map(TensorSpec.from_json, value["outputs"])), classes=tuple(value["classes"]))
        except (KeyError, TypeError) as error:
            raise errors.Invalid("This is not a model's signature.") from error

    def to_json(self) -> dict[str, Any]:
        """For the registry."""
        return {
            "inputs": [it.to_json() for it in self.inputs],
            "outputs": [it.to_json() for it in self.outputs],
            "task": self.task,
            "classes": [],
        }

    def rows_in(self, arrays: Arrays) -> int:
        """How many answers a request asks for."""
        return len(arrays[self.names[0]]) if self.is_batched else 1

    def joins(self, arrays: Arrays) -> Hashable:
        """Requests of which this is equal can be answered in one call; None: such a one only alone."""
        return tuple(arrays[name].shape[1:] for name in self.names) if self.is_batched else None

    def prediction_of(self, tensors: Mapping[str, NDArray[Any]], rows: int) -> Prediction:
        """What the model gave, in the order of the signature; `rows` are those of the request.

        Raises:
            ModelOutputInvalid: it is not what the signature promises.
        """
        made: dict[str, NDArray[Any]] = {}
        for spec in self.outputs:
            array = tensors.get(spec.name)
            if array is None:
                raise ModelOutputInvalid(f"The model's output {spec.name[:100]!r} is missing.")
            said = spec.misfit(array)
            if not said and self.is_batched and len(array) != rows:
                said = f"has {len(array)} answers to {rows} rows"
            if said:
                raise ModelOutputInvalid(f"The model's output {spec.name[:100]!r} {said}.")
            made[spec.name] = array
        return Prediction(NOTHING, None, made)

    def answers_of(self, prediction: Prediction) -> list[dict[str, Any]]:
        """One JSON object per row, and one alone of a model that is not batched: `{output: nested array}`.

        BYTES are the string that they are in UTF-8, or `{"b64"}` where they are none.
        """
        lists = {name: listed(array) for name, array in self.tensors_of(prediction).items()}
        if not self.is_batched:
            return [lists]
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]

    def tensors_of(self, prediction: Prediction) -> Mapping[str, NDArray[Any]]:
        """The outputs, of which every number is one.

        Raises:
            ModelOutputInvalid: one is NaN or infinite.
        """
        tensors = prediction.tensors or {}
        for array in tensors.values():
            if array.dtype.kind == "f":
                require_finite(array)
        return tensors


AnySignature = Signature | TensorSignature


def signature_of_json(value: Any) -> AnySignature:
    """A signature of either kind, from the registry's JSON; anything else is Invalid."""
    if isinstance(value, Mapping) and value.get("task") == "tensors":
        return TensorSignature.from_json(value)
    return Signature.from_json(value)


def elements_of(shape: Sequence[int]) -> int:
    """How much a tensor of this shape costs. A size of 0 makes others no cheaper: a model may drop that dimension."""
    return math.prod(max(size, 1) for size in shape)


def listed(array: NDArray[Any]) -> Any:
    """The nested lists of an array, for JSON."""
    return _said(array.tolist()) if array.dtype == object else array.tolist()


def _said(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_said, value))
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": b64encode(value).decode()}
