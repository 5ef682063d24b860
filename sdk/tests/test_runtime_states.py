"""States as files: what was saved comes back equal, and what cannot be saved is named."""

import io
import json
import math
import random
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from trainyard.runtime import states
from trainyard.runtime.mistakes import CannotSave, DamagedFile


def again(tree: Any) -> Any:
    return states.decoded(io.BytesIO(b"".join(states.encoded(tree))))


def header_of(content: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


@pytest.mark.parametrize(
    "tree",
    [
        {"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, "names": ["a", "b"], "on": True, "step": 2**70},
        {0: {"step": 1}, 1: {}, "mixed": 2},
        {"$": "not ours"},
        {"$": "dict", "items": [[1, 2]]},
        [math.inf, -math.inf, 5e-324, 0.1 + 0.2, -0.0],
        b"bytes\0",
        "\0\ud800 text",
        random.Random(4).getstate(),
        (),
        None,
    ],
)
def test_it_comes_back_equal(tree: Any) -> None:
    found = again(tree)
    assert found == tree
    assert repr(found) == repr(tree)


def test_a_float_that_is_no_number_comes_back_as_that() -> None:
    assert math.isnan(again({"best": math.nan})["best"])


def test_an_ordered_dict_is_a_dict_in_its_order() -> None:
    assert list(again(OrderedDict(b=1, a=2))) == ["b", "a"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3).T,
        np.array([], dtype=np.float64),
        np.array(2.5, dtype=">f4"),
        np.array([True, False]),
        np.arange(3, dtype=np.uint64)[::-1],
    ],
)
def test_an_array_comes_back_equal(array: Any) -> None:
    found = again([array])[0]
    assert found.dtype == array.dtype.newbyteorder("<")
    assert found.shape == array.shape
    assert found.tolist() == array.tolist()


def test_the_generator_of_numpy_goes_on_where_it_was() -> None:
    generator = np.random.RandomState(7)
    generator.normal(size=3)
    state = again(generator.get_state(legacy=False))
    expected = generator.normal(size=5)
    other = np.random.RandomState(0)
    other.set_state(state)
    assert other.normal(size=5).tolist() == expected.tolist()


def test_the_file_is_one_of_safetensors() -> None:
    """Its header is as long as it says, names each array once, and leaves no gap."""
    content = b"".join(states.encoded({"a": np.ones(3, np.float32), "b": np.ones(2, np.uint8)}))
    header = header_of(content)
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert set(header.pop("__metadata__")) == {"trainyard"}
    assert list(header.values()) == [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        {"dtype": "U8", "shape": [2], "data_offsets": [12, 14]},
    ]
    assert len(content) == 8 + length + 14


def test_tensors_by_their_names_are_a_file_for_others() -> None:
    content = b"".join(states.of_tensors({"layer.weight": np.ones((2, 2), np.float32)}))
    assert header_of(content) == {"layer.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


@pytest.mark.parametrize("thing", [{1, 2}, object(), np.array(["text"]), lambda: 0, 1j])
def test_what_cannot_be_saved_is_named_with_its_place(thing: Any) -> None:
    with pytest.raises(CannotSave, match=r"state\['parts'\]\[1\] is a .*, which a checkpoint cannot hold"):
        again({"parts": [1, thing]})


def test_a_header_has_bounds() -> None:
    with pytest.raises(CannotSave, match="too many small values"):
        list(states.encoded("x" * (states.LONGEST_HEADER + 1)))


GOOD = b"".join(states.encoded({"a": np.ones(3, np.float32)}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        GOOD[:5],
        GOOD[:50],
        GOOD[:-1],
        b"\xff" * 8 + GOOD[8:],
        GOOD.replace(b"trainyard", b"elsewhere"),
        GOOD.replace(b"numpy", b"pickl"),
        GOOD.replace(b"F32", b"F99"),
        (2).to_bytes(8, "little") + b"[]",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedFile):
        states.decoded(io.BytesIO(content))
