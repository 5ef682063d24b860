"""Bodies that no client sends who means well, for each route that answers predictions."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from worlds import rows

from serving.domain import arrow, npy

LENGTH = "inference-header-content-length"
INFER = "/v2/models/late/infer"
PREDICT = "/v1/deployments/late/predict"
V1 = "/v1/models/late:predict"
INVOCATIONS = "/v1/deployments/late/invocations"
DEEP = 100_000
MANY = 1_000_000
ROW = rows(1)[0]


@dataclass(frozen=True)
class Hostile:
    """A request that has to be refused."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@cache
def corpus() -> list[Hostile]:
    """All of them."""
    said = [*_json(), *_tensors(), *_binary(), *_lengths(), *_packed(), *_arrays(), *_frames()]
    names = [(it.name, it.path) for it in said]
    assert len(set(names)) == len(names), "each has a name of its own"
    return said


def _json() -> Iterator[Hostile]:
    """What is no JSON, or is too much of it, everywhere."""
    bodies = {
        "nothing": b"",
        "a brace": b"{",
        "no object": b"7",
        "an array": b"[]",
        "null": b"null",
        "not Unicode": b'{"rows": "\xff\xfe"}',
        "half a surrogate": b'{"rows": [{"carrier": "\\ud800"}]}',
        "NaN": b'{"rows": [NaN], "inputs": [NaN], "instances": [NaN]}',
        "infinity": b'{"rows": [Infinity], "inputs": [-Infinity]}',
        "a number beyond all": b'{"rows": [{"distance": 1e999}], "inputs": [1e999], "instances": [1e999]}',
        "a number of many digits": b'{"inputs": [' + b"9" * 100_000 + b"]}",
        "a member twice": b'{"rows": [], "rows": [], "inputs": [], "inputs": [], "instances": [], "instances": []}',
        "arrays in arrays": b'{"rows": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        "arrays without end": b"[" * (4 << 20),
        "objects in objects": b'{"rows":' * 20_000 + b"1" + b"}" * 20_000,
        "a million numbers": _members(b"[" + b"1," * (MANY - 1) + b"1]"),
        "a million arrays": _members(b"[" + b"[]," * (MANY - 1) + b"[]]"),
        "a million objects": _members(b"[" + b"{}," * (MANY - 1) + b"{}]"),
        "a key of a megabyte": b'{"' + b"k" * (1 << 20) + b'": 1}',
        "many keys": b"{" + b",".join(b'"%d":1' % it for it in range(200_000)) + b"}",
        "too many bytes": b" " * ((4 << 20) + 1),
    }
    for path in (INFER, PREDICT, V1, INVOCATIONS):
        for name, body in bodies.items():
            yield Hostile(name, path, body)
    yield Hostile("a byte order mark", PREDICT, b"\xef\xbb\xbf" + json.dumps({"rows": [ROW]}).encode())
    yield Hostile("values in values", PREDICT, json.dumps({"rows": [{**ROW, "distance": [[1]]}]}).encode())
    yield Hostile("an object for a row of them", PREDICT, json.dumps({"rows": {"0": ROW}}).encode())
    yield Hostile("a text of a megabyte", PREDICT, json.dumps({"rows": [{**ROW, "carrier": "x" * (1 << 20)}]}).encode())
    yield Hostile("a NUL in a text", PREDICT, json.dumps({"rows": [{**ROW, "carrier": "a\0b"}]}).encode())
    yield Hostile(
        "a time that is none", PREDICT, json.dumps({"rows": [{**ROW, "at": "2013-02-31T00:00:00Z"}]}).encode()
    )
    yield Hostile("a time of all times", PREDICT, json.dumps({"rows": [{**ROW, "at": "9" * 10_000}]}).encode())


def _members(value: bytes) -> bytes:
    """As the member that each route reads first. Three of them fit into what a body may have."""
    return (
        b'{"columns": ["distance"], "rows": ' + value + b"}"
        if len(value) > 1 << 21
        else (b'{"rows": ' + value + b', "inputs": ' + value + b"}")
    )


def _tensor(**changes: Any) -> bytes:
    tensor = {"name": "distance", "datatype": "FP32", "shape": [1, 1], "data": [1.0], **changes}
    return json.dumps({"inputs": [{name: value for name, value in tensor.items() if value is not ...}]}).encode()


def _tensors() -> Iterator[Hostile]:
    """Tensors that are none."""
    tensors: dict[str, dict[str, Any]] = {
        "no name": {"name": ...},
        "a name that is none": {"name": {"a": 1}},
        "no datatype": {"datatype": ...},
        "a datatype that is none": {"datatype": ["FP32"]},
        "an unknown datatype": {"datatype": "FP128"},
        "no shape": {"shape": ...},
        "a shape that is a number": {"shape": 1},
        "a negative size": {"shape": [-1, 1]},
        "a size with a point": {"shape": [1.0, 1]},
        "a size that is true": {"shape": [True, 1]},
        "a size beyond all": {"shape": [2**62, 2]},
        "sizes beyond all": {"shape": [2**31, 2**31, 2**31]},
        "a size of many digits": {"shape": [10**30]},
        "sizes of nothing": {"shape": [0, 2**62]},
        "a hundred sizes": {"shape": [1] * 100},
        "sizes in sizes": {"shape": [[1], [1]]},
        "no data": {"data": ...},
        "data that are null": {"data": None},
        "data that are a text": {"data": "AAAA"},
        "data that are an object": {"data": {"0": 1}},
        "fewer data": {"shape": [2, 1], "data": [1.0]},
        "more data": {"data": [1.0, 2.0]},
        "ragged data": {"shape": [2, 2], "data": [[1.0], [1.0, 2.0, 3.0]]},
        "deep data": {"data": [[[[[[[[[[1.0]]]]]]]]]]},
        "texts for numbers": {"data": ["1"]},
        "truths for numbers": {"data": [True]},
        "numbers for texts": {"name": "carrier", "datatype": "BYTES"},
        "beyond int8": {"datatype": "INT8", "data": [128]},
        "beyond uint64": {"datatype": "UINT64", "data": [-1]},
        "beyond half": {"datatype": "FP16", "data": [1e30]},
        "beyond single": {"data": [1e300]},
        "a number that is missing": {"datatype": "INT32", "data": [None]},
        "parameters that are none": {"parameters": [1]},
        "a million data": {"shape": [MANY, 1], "data": [1] * MANY},
        "a million arrays of data": {"shape": [MANY // 2, 1], "data": [[1]] * (MANY // 2)},
    }
    for name, changes in tensors.items():
        yield Hostile(name, INFER, _tensor(**changes))
    one = json.loads(_tensor())["inputs"][0]
    requests: dict[str, Any] = {
        "a tensor that is none": {"inputs": [7]},
        "tensors that are none": {"inputs": {"distance": one}},
        "a tensor twice": {"inputs": [one, one]},
        "a thousand tensors": {"inputs": [{**one, "name": str(it)} for it in range(1000)]},
        "tensors of nobody": {"inputs": [{**one, "name": "nobody"}]},
        "an id that is none": {"id": 7, "inputs": [one]},
        "an id that is an object": {"id": {"a": 1}, "inputs": [one]},
        "outputs that are none": {"inputs": [one], "outputs": "all"},
        "an output that is none": {"inputs": [one], "outputs": [None]},
        "an output without a name": {"inputs": [one], "outputs": [{}]},
        "parameters that are none of it": {"inputs": [one], "parameters": 7},
        "nothing to read": {"inputs": []},
    }
    for name, request in requests.items():
        yield Hostile(name, INFER, json.dumps(request).encode())


def _framed(inputs: list[dict[str, Any]], behind: bytes, **more: Any) -> tuple[bytes, dict[str, str]]:
    text = json.dumps({"inputs": inputs, **more}).encode()
    return text + behind, {LENGTH: str(len(text))}


def _binary() -> Iterator[Hostile]:
    """Binary tensors that lie about their bytes."""

    def sized(size: Any, datatype: str = "FP32", shape: tuple[int, ...] = (1, 1), **more: Any) -> dict[str, Any]:
        described = {"name": "distance", "datatype": datatype, "shape": list(shape)}
        return {**described, "parameters": {"binary_data_size": size}, **more}

    four = struct.pack("<f", 1)
    text = struct.pack("<I", 2**32 - 1) + b"abc"
    cases: dict[str, tuple[list[dict[str, Any]], bytes]] = {
        "more bytes than came": ([sized(8)], four),
        "fewer bytes than came": ([sized(4)], four * 2),
        "bytes beyond all": ([sized(2**62)], four),
        "fewer than no bytes": ([sized(-4)], four),
        "bytes that are true": ([sized(True)], four),
        "bytes that are a text": ([sized("4")], four),
        "bytes that are an object": ([sized({})], four),
        "bytes and data": ([sized(4, data=[1.0])], four),
        "bytes of another type": ([sized(4, "FP64")], four),
        "bytes of another shape": ([sized(4, shape=(2, 1))], four),
        "bytes of a shape beyond all": ([sized(4, shape=(2**40, 2**40))], four),
        "half a number": ([sized(3)], four[:3]),
        "no number": ([sized(4)], struct.pack("<f", float("nan"))),
        "an infinite number": ([sized(4)], struct.pack("<f", float("inf"))),
        "a text longer than all": ([sized(len(text), "BYTES")], text),
        "a text without its length": ([sized(3, "BYTES")], b"abc"),
        "a text too few": ([sized(4, "BYTES", (2, 1))], struct.pack("<I", 0)),
        "a text too many": ([sized(8, "BYTES")], struct.pack("<2I", 0, 0)),
        "a million texts": ([sized(4 * MANY, "BYTES", (MANY, 1))], bytes(4 * MANY)),
        "a million bytes": ([sized(MANY, "UINT8", (MANY, 1))], bytes(MANY)),
        "a million halves": ([sized(2 * MANY, "FP16", (MANY, 1))], bytes(2 * MANY)),
        "bytes of nobody": ([], four),
        "the same bytes twice": ([sized(4), sized(4)], four),
    }
    for name, (inputs, behind) in cases.items():
        yield Hostile(name, INFER, *_framed(inputs, behind))
    yield Hostile(
        "bytes that are no text", INFER, *_framed([sized(5, "BYTES", name="carrier")], struct.pack("<I", 1) + b"\xff")
    )


def _lengths() -> Iterator[Hostile]:
    """The length of the JSON, said wrongly."""
    body = _tensor()
    for said in (
        "-1",
        "+5",
        "1e2",
        "0x10",
        "99999999999999999999",
        str(len(body) + 1),
        str(len(body) - 1),
        "",
        "1_0",
    ):
        yield Hostile(f"a length of {said!r}", INFER, body, {LENGTH: said})
    yield Hostile("no JSON at all", INFER, b"abcd", {LENGTH: "0"})


def _packed() -> Iterator[Hostile]:
    """Bodies that are packed, and what they unpack to."""
    bomb = b"\0" * (64 << 20)
    cases = {
        ("a bomb", "gzip"): gzip.compress(bomb, 9),
        ("a bomb", "deflate"): zlib.compress(bomb, 9),
        ("a packed bomb", "gzip"): gzip.compress(gzip.compress(bomb, 9), 9),
        ("half of it", "gzip"): gzip.compress(_tensor())[:-4],
        ("more than it", "gzip"): gzip.compress(_tensor()) + b"more",
        ("another encoding", "gzip"): zlib.compress(_tensor()),
        ("another encoding", "deflate"): gzip.compress(_tensor()),
        ("a wrong sum", "deflate"): zlib.compress(_tensor())[:-1] + b"\0",
        ("plain", "gzip"): _tensor(),
        ("unknown", "br"): _tensor(),
        ("twice", "gzip, gzip"): gzip.compress(gzip.compress(_tensor())),
    }
    for (name, encoding), body in cases.items():
        yield Hostile(f"{name} ({encoding})", INFER, body, {"content-encoding": encoding})
    for path in (PREDICT, V1, INVOCATIONS):
        yield Hostile("packed", path, gzip.compress(b"{}"), {"content-encoding": "gzip"})


def _arrays() -> Iterator[Hostile]:
    """What is called Arrow or `.npy`."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"
    bodies = {
        "nothing": b"",
        "zeros": bytes(4 << 20),
        "ones": b"\xff" * (4 << 20),
        "a magic word": npy.MAGIC,
        "an object": _npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"cos\nsystem\n(S'true'\ntR."),
        "a program": _npy(b"__import__('os').abort()\n"),
        "sizes beyond all": _npy(header % b"9999999999, 9999999999, 9999999999"),
        "four bytes of a million": _npy(header % b"1000000, 6", bytes(4)),
        "too many dimensions": _npy(header % (b"1, " * 500)),
        "an endless message": arrow.MESSAGE.pack(arrow.CONTINUES, 2**32 - 1),
        "messages of nothing": arrow.MESSAGE.pack(arrow.CONTINUES, 8) * 100_000,
        "a file of Arrow": b"ARROW1\0\0" + bytes(1000),
    }
    for media in (arrow.MEDIA_TYPE, npy.MEDIA_TYPE):
        for name, body in bodies.items():
            yield Hostile(f"{name} as {media}", PREDICT, body, {"content-type": media})


def _npy(header: bytes, data: bytes = b"") -> bytes:
    return npy.MAGIC + b"\x01\0" + struct.pack("<H", len(header)) + header + data


def _frames() -> Iterator[Hostile]:
    """What MLflow would take, and what is called a CSV."""
    documents: dict[str, Any] = {
        "two forms": {"inputs": [ROW], "instances": [ROW]},
        "columns of several lengths": {"inputs": {"distance": [1], "seats": [1, 2]}},
        "columns without end": {"inputs": {str(it): [1] for it in range(100_000)}},
        "a split without columns": {"dataframe_split": {"data": [[1]]}},
        "a split of a thousand columns": {
            "dataframe_split": {"columns": [str(it) for it in range(1000)], "data": [[1]]}
        },
        "parameters": {"inputs": [ROW], "params": {"a": 1}},
    }
    for name, document in documents.items():
        yield Hostile(name, INVOCATIONS, json.dumps(document).encode())
    texts = {
        "no lines": b"",
        "no text": b"\xff\xfe\0",
        "a quote without end": b'"' + b"a" * (1 << 20),
        "a field of a megabyte": b"distance\n" + b"1" * (1 << 20),
        "a line of commas": b"," * (4 << 20),
        "lines without end": b"distance\n" * 400_000,
        "empty lines without end": b"\n" * (4 << 20),
        "other columns": b"nobody\n1\n",
        "a NUL": b"distance\n1\0\n",
    }
    for name, body in texts.items():
        yield Hostile(f"{name} as CSV", INVOCATIONS, body, {"content-type": "text/csv"})
    yield Hostile("a frame as parquet", INVOCATIONS, b"PAR1", {"content-type": "application/vnd.apache.parquet"})
