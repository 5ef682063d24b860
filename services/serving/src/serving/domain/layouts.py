"""Requests that differ in nothing but the bytes of their tensors: what is said of these bytes is read once.

A client of a model says the same of every request, and of a hundred columns that is ten thousand characters. A layout
is made of a request that was read in full, and says just what that reading found; of the next one of the same words
only the bytes are looked at.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.rows import MAX_ELEMENTS, MAX_ROWS
from models.signature import Columns, Signature
from models.tensor_signature import AnySignature
from serving.domain.tensors import BYTES, DTYPES, Asked

KEPT, LONGEST = 256, 1 << 15
"""Layouts, and bytes of the words of one."""
FLOAT = "<f4"


@dataclass(frozen=True)
class Layout:
    """Numbers that lie one behind the other, all of one type."""

    asked: Asked
    """All else that is asked."""
    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    size: int
    """Of all of them, in bytes."""

    @classmethod
    def of(cls, document: Mapping[str, Any], asked: Asked) -> "Layout | None":
        """Of a request that `tensors.read` has read; None: some of its tensors lie elsewhere, or differ in type."""
        kinds = {given["datatype"] for given in document["inputs"]}
        if len(kinds) != 1 or not all(
            "binary_data_size" in given.get("parameters", {}) for given in document["inputs"]
        ):
            return None
        [kind] = kinds
        if kind in (BYTES, "BOOL"):
            return None
        shapes = {name: array.shape for name, array in asked.tensors.items()}
        size = sum(array.nbytes for array in asked.tensors.values())
        return cls(Asked({}, asked.id, asked.outputs, asked.binary), DTYPES[kind], shapes, size)

    def tensors_in(self, binary: bytes) -> dict[str, NDArray[Any]] | None:
        """The tensors; None: there are other bytes than the words say."""
        if len(binary) != self.size:
            return None
        made, start = {}, 0
        flat = np.frombuffer(binary, self.dtype)
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            made[name] = flat[start:end].reshape(shape)
            start = end
        return made

    def columns_in(self, signature: AnySignature, binary: bytes) -> Columns | None:
        """A model's columns of numbers; None: its columns are others, or something has to be looked at more closely."""
        if not isinstance(signature, Signature) or not signature.are_numbers or self.dtype != FLOAT:
            return None
        names = signature.names
        rows = next(iter(self.shapes.values()))[:1]
        if (
            tuple(self.shapes) != names
            or len(binary) != self.size
            or not set(self.shapes.values()) <= {rows, (*rows, 1)}
        ):
            return None
        flat = np.frombuffer(binary, FLOAT)
        if not rows or not 0 < rows[0] <= MAX_ROWS or flat.size > MAX_ELEMENTS or not np.isfinite(flat).all():
            return None
        return Columns(names, np.ascontiguousarray(flat.reshape(len(names), -1).T))


class Layouts:
    """Those that were seen last, by their words."""

    def __init__(self) -> None:
        self._known: dict[bytes, Layout] = {}
        self._turn = Lock()

    def get(self, words: bytes) -> Layout | None:
        """What these words say, if they were read before."""
        return self._known.get(words)

    def put(self, words: bytes, layout: Layout) -> None:
        """They say this."""
        with self._turn:  # threads read large requests
            if len(words) <= LONGEST:
                if len(self._known) >= KEPT:
                    del self._known[next(iter(self._known))]
                self._known[words] = layout
