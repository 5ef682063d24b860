"""Files of safetensors, read without copying them: a length, a header of JSON, and the bytes of the tensors."""

import json
import math
from collections.abc import Mapping
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runners import ModelUnloadable

LARGEST_HEADER = 16 << 20
LENGTH = 8
DTYPES: Mapping[str, str] = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "<u1", "F16": "<f2"}


def tensors_in(content: bytes | mmap) -> dict[str, NDArray[Any]]:
    """The tensors by name, as views of the content where their place allows it.

    Raises:
        ModelUnloadable: it is no such file, or one whose tensors overlap, leave gaps, or are of another type.
    """
    view = memoryview(content).cast("B")
    length = int.from_bytes(view[:LENGTH], "little")
    if len(view) < LENGTH or not 2 <= length <= min(LARGEST_HEADER, len(view) - LENGTH):
        raise ModelUnloadable("The file is not safetensors: it has no header.")
    try:
        header = json.loads(bytes(view[LENGTH : LENGTH + length]), object_pairs_hook=_once)
        header.pop("__metadata__", None)
        placed = sorted((_placed(name, said) for name, said in header.items()), key=lambda it: it[1:3])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelUnloadable("The file is not safetensors: its header is not understood.") from error
    data, at = view[LENGTH + length :], 0
    for name, start, end, dtype, shape in placed:
        if start != at or end - start != math.prod(shape) * dtype.itemsize:
            raise ModelUnloadable(f"The tensor {name[:100]!r} is not where its shape says.")
        at = end
    if at != len(data) or not placed:
        raise ModelUnloadable("The file is longer or shorter than its tensors.")
    return {name: _array(data[start:end], dtype, shape) for name, start, end, dtype, shape in placed}


def _placed(name: str, said: Any) -> tuple[str, int, int, np.dtype[Any], tuple[int, ...]]:
    start, end = said["data_offsets"]
    shape = tuple(said["shape"])
    if len(shape) > 8 or any(type(it) is not int or not 0 <= it < 1 << 48 for it in (*shape, start, end)):
        raise ValueError("sizes are whole numbers")
    return name, start, end, np.dtype(DTYPES[said["dtype"]]), shape


def _array(raw: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.frombuffer(raw, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()  # computing with what is not aligned copies it every time


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is there twice")
    return members
