"""Streams as Arrow's own library writes them are read, and ours by it; what is hostile is refused."""

import random
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.domain import arrow, arrow_answers
from serving.domain import flatbuffers as fb
from serving.domain.tensors import DTYPES, Tensor

MANY = 100_000
TYPES = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]


def stream(table: pa.Table, *, rows: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return bytes(sink.getvalue())


def read(content: bytes, most: int = MANY, columns: int = 50) -> dict[str, Any]:
    return arrow.read(content, columns=columns, most=most)


def lists(of: pa.DataType, size: int) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3 * size), of), size)


TABLE = pa.table(
    {
        **{str(kind): pa.array([1, 2, 3], kind) for kind in TYPES},
        **{str(kind): pa.array(np.array([0.5, 1, 2], kind.to_pandas_dtype()), kind) for kind in FLOATS},
        "truth": [True, False, True],
        "text": ["a", "", "ü"],
        "large": pa.array(["x", "y", "z"], pa.large_string()),
        "bytes": pa.array([b"\xff", b"", b"c"], pa.binary()),
        "large bytes": pa.array([b"\xff", b"", b"c"], pa.large_binary()),
        "at": pa.array([0, 1, 2], pa.timestamp("s", "UTC")),
        "list": lists(pa.float32(), 4),
        "deep": pa.array([[[1, 2], [3, 4]]] * 3, pa.list_(pa.list_(pa.int16(), 2), 2)),
    }
)


def expected(name: str) -> list[Any]:
    values: list[Any] = TABLE[name].to_pylist()
    if name == "at":
        return [0, 1_000_000, 2_000_000]
    return [value.encode() if isinstance(value, str) else value for value in values]


@pytest.mark.parametrize("rows", [None, 2, 1])
def test_what_arrow_writes_is_read(rows: int | None) -> None:
    found = read(stream(TABLE, rows=rows))
    assert list(found) == TABLE.column_names
    for name, array in found.items():
        assert array.tolist() == expected(name), name
        assert array.shape[0] == 3
    assert {name: found[name].dtype.kind for name in ("truth", "text", "at", "list")} == {
        "truth": "b",
        "text": "O",
        "at": "i",
        "list": "f",
    }
    assert found["uint64"].dtype == np.uint64


def test_what_is_missing_is_said_as_models_have_it() -> None:
    gaps = pa.table(
        {
            "number": pa.array([1.5, None, 3], pa.float32()),
            "whole": pa.array([1, None, 3], pa.int64()),
            "truth": pa.array([True, None, False]),
            "text": ["a", None, ""],
            "at": pa.array([1, None, 3], pa.timestamp("us")),
        }
    )
    found = read(stream(gaps))
    for name, values in (("number", [1.5, np.nan, 3]), ("whole", [1, np.nan, 3]), ("truth", [1, np.nan, 0])):
        np.testing.assert_array_equal(found[name], values)
    assert found["number"].dtype == np.float32
    assert found["text"].tolist() == [b"a", None, b""]
    assert found["at"].tolist() == [1, np.iinfo(np.int64).min, 3]
    mixed = read(stream(gaps, rows=1))
    np.testing.assert_array_equal(mixed["whole"], [1, np.nan, 3])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_microseconds(unit: str) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    table = pa.table({"at": pa.array([-1 * factor, 1_372_957_200 * factor], pa.timestamp(unit))})
    assert read(stream(table))["at"].tolist() == [-1_000_000, 1_372_957_200_000_000]


def test_a_time_beyond_all_range_is_refused() -> None:
    with pytest.raises(arrow.ArrowInvalid, match="range"):
        read(stream(pa.table({"at": pa.array([2**60], pa.timestamp("s"))})))


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (pa.table({"a": pa.array(["x", "y"]).dictionary_encode()}), {}, "dictionary"),
        (pa.table({"a": ["x" * 1000]}), {"compression": "lz4"}, "compress"),
        (pa.table({"a": ["x" * 1000]}), {"compression": "zstd"}, "compress"),
        (pa.table({"a": pa.array([[1], [2]])}), {}, "type"),
        (pa.table({"a": pa.array([{"b": 1}])}), {}, "type"),
        (pa.table({"a": pa.nulls(2)}), {}, "type"),
        (pa.table({"a": pa.array(["x"], pa.string_view())}), {}, "type"),
        (pa.table({"a": pa.array([1], pa.decimal128(5))}), {}, "type"),
        (pa.table({"a": pa.array([1], pa.date32())}), {}, "type"),
        (pa.table({"a": pa.FixedSizeListArray.from_arrays(pa.array(["x", "y"]), 2)}), {}, "type"),
        (pa.table({"a": pa.array([[1, 2], None], pa.list_(pa.int8(), 2))}), {}, "lists that are missing"),
        (pa.table({"a": pa.array([], pa.int8())}), {}, "no rows"),
        (pa.table({"a": np.arange(101)}), {}, "100 values"),
        (pa.table({str(it): [it] for it in range(51)}), {}, "50 columns"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), {}, "twice"),
        (pa.table({}), {}, "no columns"),
    ],
)
def test_what_is_not_taken_is_refused_in_words(table: pa.Table, options: dict[str, Any], said: str) -> None:
    with pytest.raises(arrow.ArrowInvalid, match=said):
        read(stream(table, **options), most=100)


def test_an_empty_column_of_texts_has_no_offsets() -> None:
    table = pa.concat_tables([pa.table({"a": ["x"]}), pa.table({"a": pa.array([], pa.string())})])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in (pa.record_batch({"a": ["x"]}), pa.record_batch({"a": pa.array([], pa.string())})):
            writer.write_batch(batch)
    assert read(bytes(sink.getvalue()))["a"].tolist() == [b"x"]


class Made:
    """A stream made by hand, whose batch says what it likes."""

    def __init__(self, *, kind: tuple[int, Any] = (arrow.INT, fb.table(32, 1)), children: Any = None) -> None:
        field = fb.table(fb.text("a"), None, *kind, None, fb.vector(children or []))
        self.schema = self.message(1, fb.table(None, fb.vector([field])))
        self.nodes = [(2, 0)]
        self.buffers = [(0, 0), (0, 8)]
        self.length = 2
        self.body = bytes(8)

    @staticmethod
    def message(kind: int, header: Any, body: bytes = b"") -> bytes:
        metadata = fb.buffer_of(fb.table(4, kind, header, len(body)))
        return arrow.MESSAGE.pack(arrow.CONTINUES, len(metadata)) + metadata + body

    def content(self) -> bytes:
        header = fb.table(self.length, fb.pairs(self.nodes), fb.pairs(self.buffers))
        return self.schema + self.message(3, header, self.body)


def test_a_batch_made_by_hand_is_one() -> None:
    made = Made()
    assert read(made.content())["a"].tolist() == [0, 0]
    assert pa.ipc.open_stream(made.content()).read_all().to_pydict() == {"a": [0, 0]}


@pytest.mark.parametrize(
    "changes",
    [
        {"length": 3},
        {"length": -1},
        {"length": 2**62, "nodes": [(2**62, 0)]},
        {"nodes": [(3, 0)]},
        {"nodes": []},
        {"nodes": [(2, 0), (2, 0)]},
        {"buffers": [(0, 0)]},
        {"buffers": []},
        {"buffers": [(0, 0), (0, 9)]},
        {"buffers": [(0, 0), (0, 4)]},
        {"buffers": [(0, 0), (4, 8)]},
        {"buffers": [(0, 0), (-8, 8)]},
        {"buffers": [(0, 0), (0, -8)]},
        {"buffers": [(0, 8), (0, 8)]},
        {"buffers": [(0, 0), (2**62, 2**62)]},
        {"buffers": [(0, 0)] * 4},
    ],
)
def test_a_batch_that_lies_is_refused(changes: dict[str, Any]) -> None:
    made = Made()
    vars(made).update(changes)
    with pytest.raises(arrow.ArrowInvalid):
        read(made.content())


@pytest.mark.parametrize("offsets", [(0, 2, 1), (0, 4, 9), (-1, 0, 1), (2**30, 2**30, 2**31 - 1)])
def test_texts_whose_offsets_lie_are_refused(offsets: tuple[int, ...]) -> None:
    made = Made(kind=(arrow.UTF8, fb.table()))
    made.body = struct.pack("<3i4x", *offsets) + b"abcdefgh"
    made.buffers = [(0, 0), (0, 12), (16, 8)]
    with pytest.raises(arrow.ArrowInvalid):
        read(made.content())


def test_a_text_may_not_be_said_in_two_columns_of_the_same_bytes() -> None:
    """A few bytes would unfold to as many texts as there are columns."""
    field = fb.table(fb.text("b"), None, arrow.UTF8, fb.table(), None, fb.vector([]))
    made = Made(kind=(arrow.UTF8, fb.table()))
    first = fb.table(fb.text("a"), None, arrow.UTF8, fb.table(), None, fb.vector([]))
    made.schema = made.message(1, fb.table(None, fb.vector([first, field])))
    made.nodes, made.length = [(1, 0), (1, 0)], 1
    made.body = struct.pack("<2i", 0, 8) + b"abcdefgh"
    made.buffers = [(0, 0), (0, 8), (8, 8)] * 2
    with pytest.raises(arrow.ArrowInvalid, match="over each other"):
        read(made.content())


@pytest.mark.parametrize(
    "kind",
    [
        (arrow.INT, fb.table(24, 1)),
        (arrow.FLOAT, fb.table(7)),
        (arrow.TIMESTAMP, fb.table(9)),
        (99, fb.table()),
        (arrow.FIXED_LIST, fb.table(2)),
    ],
)
def test_types_that_are_none_are_refused(kind: tuple[int, Any]) -> None:
    with pytest.raises(arrow.ArrowInvalid, match="type"):
        read(Made(kind=kind).content())


def test_lists_in_lists_end_somewhere() -> None:
    field = fb.table(fb.text("item"), None, arrow.INT, fb.table(8, 1), None, fb.vector([]))
    for _ in range(arrow.MAX_DEPTH):
        field = fb.table(fb.text("item"), None, arrow.FIXED_LIST, fb.table(1), None, fb.vector([field]))
    with pytest.raises(arrow.ArrowInvalid, match="type"):
        read(Made(kind=(arrow.FIXED_LIST, fb.table(1)), children=[field]).content())
    with pytest.raises(arrow.ArrowInvalid, match="type"):
        read(Made(kind=(arrow.FIXED_LIST, fb.table(0)), children=[field]).content())


def test_a_stream_has_a_schema_first_and_then_records() -> None:
    made = Made()
    records = made.content()[len(made.schema) :]
    big = made.message(1, fb.table(1, fb.vector([])))
    many = made.schema + records * 1001
    for wrong in (
        b"",
        records,
        made.schema,
        made.schema * 2,
        big,
        many,
        made.schema + records[:-1],
        b"ARROW1" + records,
    ):
        with pytest.raises(arrow.ArrowInvalid):
            read(wrong)
    ended = made.schema + records + arrow.MESSAGE.pack(arrow.CONTINUES, 0)
    assert len(read(ended + records)["a"]) == 2
    no_header = fb.buffer_of(fb.table(4, 1))
    with pytest.raises(arrow.ArrowInvalid):
        read(arrow.MESSAGE.pack(arrow.CONTINUES, len(no_header)) + no_header)


def test_truths_are_bits_and_all_there() -> None:
    made = Made(kind=(arrow.BOOL, fb.table()))
    made.body, made.buffers = b"\x02" + bytes(7), [(0, 0), (0, 1)]
    assert read(made.content())["a"].tolist() == [False, True]
    made.length, made.nodes = 9, [(9, 0)]
    with pytest.raises(arrow.ArrowInvalid, match="shorter"):
        read(made.content())


def test_a_column_without_a_name_has_an_empty_one() -> None:
    field = fb.table(None, None, arrow.INT, fb.table(32, 1), None, fb.vector([]))
    made = Made()
    made.schema = made.message(1, fb.table(None, fb.vector([field])))
    assert list(read(made.content())) == [""]


def test_a_name_that_is_none_is_refused() -> None:
    for name in ("x" * 5000, "\udcff"):

        def put(out: bytearray, raw: bytes = name.encode(errors="surrogateescape")) -> int:
            begin = fb._aligned(out, 4)
            out += struct.pack("<I", len(raw)) + raw + b"\0"
            return begin

        field = fb.table(put, None, arrow.INT, fb.table(32, 1), None, fb.vector([]))
        made = Made()
        made.schema = made.message(1, fb.table(None, fb.vector([field])))
        with pytest.raises(arrow.ArrowInvalid):
            read(made.content())


GOOD = stream(TABLE, rows=2)


@given(st.integers(), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_harm(seed: int, changes: int) -> None:
    """What is changed anywhere is read as something, or refused; nothing else happens."""
    chance = random.Random(seed)
    changed = bytearray(GOOD)
    for _ in range(changes):
        changed[chance.randrange(len(changed))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    cut = bytes(changed[: chance.randrange(len(changed))]) if chance.random() < 0.2 else bytes(changed)
    try:
        found = read(cut)
    except arrow.ArrowInvalid:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())


def texts(*values: Any) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_answers_are_read_by_arrow_s_own_library() -> None:
    numbers = [Tensor(datatype, datatype, np.array([0, 1, 1], dtype)) for datatype, dtype in DTYPES.items()]
    tensors = [
        *numbers,
        Tensor("label", "BYTES", texts("a", "ü", "")),
        Tensor("raw", "BYTES", texts(b"\xff", b"", b"c")),
        Tensor("probabilities", "FP32", np.arange(6, dtype="<f4").reshape(3, 2)),
        Tensor("deep", "INT16", np.arange(18, dtype="<i2").reshape(3, 2, 3)),
        Tensor("strided", "FP64", np.arange(6.0).reshape(2, 3).T),
    ]
    content = arrow_answers.write(tensors, {"model": "late", "revision": "3"})
    table = pa.ipc.open_stream(content).read_all()
    table.validate(full=True)
    assert table.column_names == [tensor.name for tensor in tensors]
    for tensor in tensors:
        assert table[tensor.name].to_pylist() == tensor.array.tolist(), tensor.name
    assert table.schema.metadata == {b"model": b"late", b"revision": b"3"}
    again = read(content)
    assert again["deep"].tolist() == tensors[-2].array.tolist()


@pytest.mark.parametrize("shapes", [[(2,), (3,)], [()], [(1,), ()]])
def test_what_has_no_rows_is_no_table(shapes: list[tuple[int, ...]]) -> None:
    tensors = [Tensor(str(place), "FP32", np.zeros(shape, "<f4")) for place, shape in enumerate(shapes)]
    with pytest.raises(arrow_answers.NotOneValueARow):
        arrow_answers.write(tensors, {})


def test_a_vector_that_ends_beyond_its_buffer_is_refused() -> None:
    content = fb.buffer_of(fb.table(fb.pairs([(1, 2)])))
    assert fb.Table.root(content).pairs(0, most=1) == [(1, 2)]
    assert fb.Table.root(content).pairs(1, most=1) == []
    with pytest.raises(fb.FlatBufferInvalid):
        fb.Table.root(content[:-8]).pairs(0, most=1)
    with pytest.raises(fb.FlatBufferInvalid):
        fb.Table.root(content).pairs(0, most=0)
