"""Arrays as NumPy writes them, and what only looks like one."""

import io
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.lib import format as npy_format

from serving.domain import npy

MANY = 10_000


def written(array: Any, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    npy_format.write_array(out, array, version)
    return out.getvalue()


@given(
    arrays.arrays(
        st.sampled_from(["?", "<i1", ">i2", "<i4", "<i8", "<u1", "<u2", ">u4", "<u8", "<f2", "<f4", ">f8"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    st.booleans(),
    st.sampled_from([None, (1, 0), (2, 0), (3, 0)]),
)
@settings(max_examples=100, deadline=None)
def test_what_numpy_writes_is_read(array: Any, fortran: bool, version: tuple[int, int] | None) -> None:
    array = np.asfortranarray(array) if fortran else array
    found = npy.read(written(array, version), most=MANY)
    assert found.shape == array.shape
    assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


GOOD = written(np.arange(6, dtype="<f4").reshape(2, 3))
HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


def headed(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    size = {1: 2, 2: 4, 3: 4}.get(version, 2)
    return npy.MAGIC + bytes([version, 0]) + len(header).to_bytes(size, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04",
        GOOD[:-1],
        GOOD + b"x",
        GOOD[:40],
        headed(HEADER + b"\n", version=4),
        headed(HEADER, bytes(24)),  # not ended
        headed(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", pickle.dumps([1])),
        headed(b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }\n", bytes(4)),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),), }\n"),
        headed(b"{'descr': '<i3', 'fortran_order': False, 'shape': (1,), }\n", bytes(3)),
        headed(b"{'descr': '<f1', 'fortran_order': False, 'shape': (1,), }\n", bytes(1)),
        headed(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", bytes(4)),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n", bytes(4)),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }\n"),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }\n", bytes(4)),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1, " * 1300 + b"), }\n", bytes(4)),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10001,), }\n", bytes(40_004)),
        npy.MAGIC + b"\x02\x00\xff\xff\xff\xff" + HEADER,
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(npy.NpyInvalid):
        npy.read(content, most=MANY)


def test_a_truth_is_one_whatever_its_byte() -> None:
    content = headed(b"{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }\n", b"\x00\x01\xff")
    assert npy.read(content, most=MANY).tolist() == [False, True, True]


def test_the_body_itself_is_the_array() -> None:
    found = npy.read(GOOD, most=6)
    assert not found.flags.owndata
    assert not found.flags.writeable


@given(st.binary(max_size=200), st.integers(0, 140), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_no_bytes_do_harm(noise: bytes, place: int, byte: int) -> None:
    changed = bytearray(GOOD)
    changed[place % len(GOOD)] = byte
    for content in (noise, npy.MAGIC + noise, bytes(changed)):
        try:
            npy.read(content, most=MANY)
        except npy.NpyInvalid:
            continue
