"""Bodies in NumPy's own format, `.npy`: one array behind a header, which is read without evaluating anything.

NumPy's reader evaluates the header as Python and unpickles objects. Here the header has to be what NumPy writes, to the
letter, of an array of numbers or truths.
"""

import math
import re

import numpy as np
from numpy.typing import NDArray

from kit import errors

MEDIA_TYPE = "application/x-npy"
MAGIC = b"\x93NUMPY"
_HEAD = {1: 2, 2: 4, 3: 4}
"""Of each version of the format, the bytes of the header's length."""
LONGEST = 1 << 12
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?(?:b1|[iu][1248]|f[248]))', 'fortran_order': (False|True), "
    rb"'shape': \(((?:[0-9]{1,10}, ?)*[0-9]{0,10})\), ?\} *\n"
)
MAX_DIMENSIONS = 8


class NpyInvalid(errors.Malformed):
    """The body is no `.npy` of numbers or truths."""


def read(content: bytes, *, most: int) -> NDArray[np.generic]:
    """The array of the body, of at most `most` elements. Little-endian numbers share the body's memory.

    Raises:
        NpyInvalid: it is none, or has more elements.
    """
    begin, header = _header(content)
    found = _HEADER.fullmatch(header)
    if found is None:
        raise NpyInvalid("The header of the .npy is not one of an array of numbers or truths.")
    descr, fortran, sizes = found.groups()
    dtype = np.dtype(descr.decode())
    shape = tuple(int(size) for size in sizes.replace(b" ", b"").split(b",") if size)
    if len(shape) > MAX_DIMENSIONS:
        raise NpyInvalid(f"The .npy has {len(shape)} dimensions; {MAX_DIMENSIONS} are the most.")
    count = math.prod(shape)
    if count > most:
        raise NpyInvalid(f"The .npy has {count} elements; {most} are the most.")
    if len(content) - begin != count * dtype.itemsize:
        raise NpyInvalid(f"The .npy has {len(content) - begin} bytes of data, and its shape {shape} takes others.")
    array = np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype, count=count, offset=begin)
    if dtype.kind == "b":
        array = array.astype(bool)  # whatever the byte is
    if dtype.byteorder == ">":
        array = array.astype(dtype.newbyteorder("<"))
    return array.reshape(shape, order="F" if fortran == b"True" else "C")


def _header(content: bytes) -> tuple[int, bytes]:
    """Where the data begin, and the header before them."""
    size = _HEAD.get(content[len(MAGIC)] if len(content) > len(MAGIC) else 0)
    if not content.startswith(MAGIC) or size is None:
        raise NpyInvalid("The body is no .npy.")
    start = len(MAGIC) + 2 + size
    length = int.from_bytes(content[start - size : start], "little")
    if length > LONGEST or start + length > len(content):
        raise NpyInvalid("The .npy has a header of a length that cannot be.")
    return start + length, content[start : start + length]
