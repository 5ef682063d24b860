"""gRPC in front of an application of our own: what is taken, what is refused before it is read, and how calls end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
from grpc_at_work import Caller
from starlette.types import Receive, Scope, Send

from kit.bodies import answer
from kit.testing import KeyFolder, eventually
from kit.tokens import load_verifier
from serving.domain import tensors
from serving.grpc.schema import MESSAGES, METHODS, SERVICE
from serving.grpc.server import served

Handle = Callable[[Scope, Receive, Send], Awaitable[None]]
SOON = timedelta(seconds=5)
MIB = 1 << 20
NOTHING = {"model_name": "m", "model_version": "1", "id": "", "parameters": {}, "outputs": []}
DETAILS = "grpc-status-details-bin"


class Application:
    """Answers as it is told, and knows what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Scope] = []
        self.body = b""
        self.gone = 0
        self.says: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        self.waits = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        self.body = (await receive())["body"]
        if self.waits:
            assert (await receive())["type"] == "http.disconnect"
            self.gone += 1
            return
        status, headers, body = self.says
        await answer(send, status, body, headers)

    def header(self, name: bytes) -> bytes:
        return bytes(dict(self.asked[-1]["headers"]).get(name, b""))

    def tensors(self) -> tensors.Asked:
        """What was asked, as REST reads it."""
        length = int(self.header(b"inference-header-content-length"))
        return tensors.read(orjson.loads(self.body[:length]), self.body[length:])


@contextlib.asynccontextmanager
async def calling(keys: KeyFolder, **more: Any) -> AsyncIterator[tuple[Application, Caller]]:
    app = Application()
    verifier = load_verifier(keys.public, "serving")
    async with (
        served(app, {"mark": 1}, verifier, host="127.0.0.1", port=0, **more) as port,
        Caller.at(port, keys.headers("serving")) as caller,
    ):
        yield app, caller


@pytest.fixture
async def at(key_folder: KeyFolder) -> AsyncIterator[tuple[Application, Caller]]:
    async with calling(key_folder) as it:
        yield it


def typed(datatype: str, field: str, values: list[Any], shape: list[int] | None = None) -> Any:
    message = MESSAGES["ModelInferRequest"](model_name="m")
    given = message.inputs.add(name="x", datatype=datatype, shape=[len(values)] if shape is None else shape)
    getattr(given.contents, field).extend(values)
    return message


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-(2**15), 2**15 - 1]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 2**16 - 1]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -0.25]),
        ("FP64", "fp64_contents", [0.1, 1e300]),
        ("BYTES", "bytes_contents", [b"", b"\xff\x00"]),
    ],
)
async def test_typed_contents_of_every_datatype_arrive_as_they_are(
    at: tuple[Application, Caller], datatype: str, field: str, values: list[Any]
) -> None:
    app, caller = at
    app.says = (
        200,
        {},
        orjson.dumps(NOTHING),
    )
    await caller.ask("ModelInfer", typed(datatype, field, values))
    asked = app.tensors()
    assert asked.binary
    assert asked.tensors["x"].tolist() == values


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (typed("INT8", "int_contents", [128]), "beyond INT8"),
        (typed("UINT16", "uint_contents", [2**16]), "beyond UINT16"),
        (typed("INT8", "uint_contents", [1]), "must be int_contents"),
        (typed("FP16", "fp32_contents", [1.0]), "must be raw_input_contents"),
        (typed("FP32", "fp32_contents", [1.0], [2]), "the shape [2]"),
        (typed("FP32", "fp32_contents", [1.0], [-1]), "the shape [-1]"),
        (b"\xff" * 30, "no ModelInferRequest"),
        (b"\x2a\x00" * 600, "512 inputs, outputs and contents"),
        (b"\x2a\x00" * (2 * MIB), "512 inputs, outputs and contents"),
    ],
)
async def test_contents_that_say_something_else_are_refused_before_anybody_is_asked(
    at: tuple[Application, Caller], message: Any, words: str
) -> None:
    app, caller = at
    refused = await caller.refused("ModelInfer", message)
    assert (refused.code(), words in str(refused.details())) == (grpc.StatusCode.INVALID_ARGUMENT, True), refused
    assert app.asked == []


async def test_raw_and_typed_contents_are_not_mixed_and_all_there(at: tuple[Application, Caller]) -> None:
    _, caller = at
    both = typed("FP32", "fp32_contents", [1.0])
    both.raw_input_contents.append(b"1234")
    two = MESSAGES["ModelInferRequest"](model_name="m", raw_input_contents=[b"1234", b"5678"])
    two.inputs.add(name="x", datatype="FP32", shape=[1])
    for message, words in ((both, "no contents where"), (two, "2 of them for 1 inputs")):
        refused = await caller.refused("ModelInfer", message)
        assert (refused.code(), words in str(refused.details())) == (grpc.StatusCode.INVALID_ARGUMENT, True), refused


@pytest.mark.parametrize("name", ["", "a/b", "../../v1", "m/versions/1"])
async def test_a_name_is_no_path(at: tuple[Application, Caller], name: str) -> None:
    app, caller = at
    for call, field in (("ModelInfer", "model_name"), ("ModelMetadata", "name"), ("RepositoryModelLoad", "model_name")):
        refused = await caller.refused(call, METHODS[call][0](**{field: name}))
        assert refused.code() == grpc.StatusCode.NOT_FOUND
    assert app.asked == []
    refused = await caller.refused("ModelMetadata", METHODS["ModelMetadata"][0](name="stats"))
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (404, grpc.StatusCode.NOT_FOUND),
        (413, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (500, grpc.StatusCode.INTERNAL),
        (502, grpc.StatusCode.INTERNAL),
        (504, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_each_status_is_a_code_with_its_words(
    at: tuple[Application, Caller], status: int, code: grpc.StatusCode
) -> None:
    app, caller = at
    app.says = (status, {}, b'{"error":"Why not."}')
    refused = await caller.refused("ServerMetadata")
    assert (refused.code(), refused.details()) == (code, "Why not.")
    assert DETAILS not in dict(refused.trailing_metadata() or ())


async def test_who_is_to_come_again_hears_when(at: tuple[Application, Caller]) -> None:
    app, caller = at
    app.says = (503, {"retry-after": "200"}, b'{"title":"Overloaded","detail":"Full."}')
    refused = await caller.refused("ServerMetadata")
    assert (refused.code(), refused.details()) == (grpc.StatusCode.UNAVAILABLE, "Full.")
    trailers = dict(refused.trailing_metadata() or ())
    assert trailers["grpc-retry-pushback-ms"] == "200000"
    # google.rpc.Status: its code, its words, and an Any with a RetryInfo of a Duration of 200 s.
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    info = b"\x0a\x03\x08\xc8\x01"
    wrapped = b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(info)]) + info
    assert trailers[DETAILS] == b"\x08\x0e\x12\x05Full.\x1a" + bytes([len(wrapped)]) + wrapped


async def test_not_ready_is_an_answer(at: tuple[Application, Caller]) -> None:
    app, caller = at
    app.says = (503, {"retry-after": "1"}, b'{"name":"m","ready":false}')
    assert not (await caller.ask("ModelReady", METHODS["ModelReady"][0](name="m"))).ready
    assert not (await caller.ask("ServerReady")).ready


async def test_deadlines_go_on_to_the_queue_and_who_has_left_is_not_waited_for(at: tuple[Application, Caller]) -> None:
    app, caller = at
    await caller.ask("ServerLive", within=3)
    assert 2 < float(app.header(b"x-request-timeout")) < 3.5  # two clocks, which are read one after the other
    await caller.ask("ServerLive", within=10_000)
    assert float(app.header(b"x-request-timeout")) == 300
    await caller.ask("ServerLive", within=None)
    assert app.header(b"x-request-timeout") == b""
    app.waits = True
    refused = await caller.refused("ServerLive", within=0.2)
    assert refused.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    task = asyncio.create_task(caller.ask("ServerLive"))
    await eventually(lambda: len(app.asked) == 5, SOON)
    task.cancel()
    await eventually(lambda: app.gone == 2, SOON)


async def test_an_application_that_fails_says_nothing_of_itself(at: tuple[Application, Caller]) -> None:
    app, caller = at
    app.says = (200, {}, b"no JSON at all: secret")
    refused = await caller.refused("ServerMetadata")
    assert refused.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(refused.details())


async def test_only_what_means_something_here_is_a_header(at: tuple[Application, Caller]) -> None:
    app, caller = at
    said: list[tuple[str, str | bytes]] = [
        *caller.headers.items(),
        ("traceparent", "tp"),
        ("x-request-timeout", "9"),
        ("x-bin", b"\xff"),
        ("accept", "x"),
    ]
    await caller.ask("ServerLive", metadata=said)
    names = {name for name, _ in app.asked[-1]["headers"]}
    assert {b"authorization", b"traceparent"} <= names
    assert not names & {b"x-bin", b"accept"}
    assert float(app.header(b"x-request-timeout")) > 9
    assert app.asked[-1]["state"] == {"mark": 1}


async def test_a_stranger_is_refused_before_the_message_is_there(at: tuple[Application, Caller]) -> None:
    app, caller = at
    call = caller.channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=(("authorization", "Bearer no"),), timeout=20)
    assert await call.code() == grpc.StatusCode.UNAUTHENTICATED  # and nothing was written
    assert app.asked == []


async def test_a_message_that_does_not_come_is_not_waited_for_for_ever(key_folder: KeyFolder) -> None:
    async with calling(key_folder, slow=0.2) as (app, caller):
        ask = caller.channel.stream_unary(f"/{SERVICE}/ModelInfer")
        call = ask(metadata=tuple(caller.headers.items()), timeout=20)
        assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        call = ask(metadata=tuple(caller.headers.items()), timeout=20)
        await call.done_writing()
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert app.asked == []


async def test_more_bytes_than_are_taken_are_not_read(at: tuple[Application, Caller]) -> None:
    app, caller = at
    large = MESSAGES["ModelInferRequest"](model_name="m", raw_input_contents=[bytes(4 * MIB)])
    assert (await caller.refused("ModelInfer", large)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    long = (*caller.headers.items(), ("x-request-id", "a" * 20_000))
    assert (await caller.refused("ServerLive", metadata=long)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert app.asked == []


async def test_packed_messages_are_read(at: tuple[Application, Caller]) -> None:
    app, caller = at
    app.says = (
        200,
        {},
        orjson.dumps(NOTHING),
    )
    asked = typed("FP32", "fp32_contents", [0.5] * 1000)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        await caller.ask("ModelInfer", asked, compression=compression)
        assert np.array_equal(app.tensors().tensors["x"], np.full(1000, 0.5, np.float32))


async def test_what_is_not_spoken_is_unimplemented(at: tuple[Application, Caller]) -> None:
    _, caller = at
    call = caller.channel.unary_unary(f"/{SERVICE}/TraceSetting")(b"", metadata=tuple(caller.headers.items()))
    assert await call.code() == grpc.StatusCode.UNIMPLEMENTED
