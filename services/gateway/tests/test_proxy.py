"""The way through the gateway on real sockets: streamed both ways, nothing changed, nothing hidden."""

import asyncio
import hashlib
import json

import pytest
from starlette.types import Receive, Scope, Send

from kit.callers import Caller, Role
from kit.testing import KeyFolder, eventually

from .gateways import Door, answer, caller_of, resident, wire

MEGABYTE = 1 << 20


def begin(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_request_arrives_as_it_was_with_who_asks(door: Door, key_folder: KeyFolder) -> None:
    async with door.client("editor") as http:
        answered = await http.post(
            "/v1/datasets/flights@3/versions?a=%2F&b=+;c",
            content=b"a,b\n",
            headers={"content-type": "text/csv", "x-request-id": "mine", "cookie": "a=b", "x-forwarded-for": "1.1.1.1"},
        )
    said = answered.json()
    headers = dict(said["headers"])

    assert (said["method"], said["size"]) == ("POST", 4)
    assert said["target"] == "/v1/datasets/flights@3/versions?a=%2F&b=+;c"
    assert headers["content-type"] == "text/csv"
    assert headers["x-request-id"] == answered.headers["x-request-id"] == "mine"
    assert {"cookie", "x-forwarded-for"} & headers.keys() == set()
    assert headers["traceparent"].startswith("00-")
    assert "ty_" not in headers["authorization"]
    assert caller_of(door.upstream.seen[-1], key_folder, "ingest") == Caller("blue", Role.EDITOR, "eve", "gateway")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/a%2Fb/versions/1/files/x%20y",
        "/v1/models/a+b;c?d=%2F+&e=%C3%A9;f",
        "/v1/runs/a@b:c?q",
        "/v2/",
        "/v2",
    ],
)
async def test_a_target_is_not_decoded_and_encoded_again(door: Door, target: str) -> None:
    async with wire(door.port) as raw:
        await raw.send(door.head(f"GET {target}"))
        status, headers = await raw.head()
        body = await raw.reader.readexactly(int(dict(headers)["content-length"]))

    assert status == 200
    assert json.loads(body)["target"] == target.rstrip("?")


async def test_chunks_come_down_as_they_are_sent(door: Door) -> None:
    go_on = asyncio.Event()

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        await send(piece(b"one"))
        await go_on.wait()
        await send(piece(b"two"))
        await send(piece(b"", more=False))

    door.upstream.replies["/v1/jobs/1/logs"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("GET /v1/jobs/1/logs"))
        assert (await raw.head())[0] == 200
        assert await raw.chunk() == b"one"
        assert not go_on.is_set()
        go_on.set()
        assert await raw.chunk() == b"two"
        assert await raw.chunk() == b""


async def test_chunks_go_up_as_they_come(door: Door) -> None:
    first = asyncio.Event()

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"one"
        first.set()
        rest = b""
        while (message := await receive())["type"] == "http.request":
            rest += message["body"]
            if not message["more_body"]:
                break
        await answer(send, json.dumps(rest.decode()).encode())

    door.upstream.replies["/v1/uploads"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("POST /v1/uploads", "Transfer-Encoding: chunked"), b"3\r\none\r\n")
        await asyncio.wait_for(first.wait(), 5)
        await raw.send(b"3\r\ntwo\r\n0\r\n\r\n")
        status, _ = await raw.head()
        assert (status, await raw.reader.readexactly(5)) == (200, b'"two"')


async def test_what_is_special_in_an_answer_passes(door: Door) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"content-encoding", b"gzip"),
            (b"etag", b'"x"'),
            (b"location", b"/v1/models/a%2Fb"),
            (b"content-length", b"3"),
            (b"server", b"secret/1"),
            (b"keep-alive", b"timeout=5"),
        ]
        await send(begin(302, *headers))
        await send(piece(b"zip", more=False))

    door.upstream.replies["/v1/models"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("GET /v1/models"))
        status, headers = await raw.head()
        body = await raw.reader.readexactly(3)

    assert (status, body) == (302, b"zip")
    assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2"]
    said = dict(headers)
    assert (said["content-encoding"], said["etag"], said["location"]) == ("gzip", '"x"', "/v1/models/a%2Fb")
    assert {"server", "keep-alive"} & said.keys() == set()
    assert [name for name, _ in headers].count("x-request-id") == 1


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", 200, "12345"), ("HEAD", 200, "99999999"), ("GET", 204, None), ("GET", 304, None)],
)
async def test_answers_without_a_body(door: Door, method: str, status: int, length: str | None) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["method"] == method
        headers = [] if length is None else [(b"content-length", length.encode())]
        await send(begin(status, *headers))
        await send(piece(b"", more=False))

    door.upstream.replies["/v1/models"] = reply
    async with wire(door.port) as raw:
        for _ in range(2):  # the connection is still in step
            await raw.send(door.head(f"{method} /v1/models"))
            answered, headers = await raw.head()
            assert (answered, dict(headers).get("content-length")) == (status, length)
            assert "transfer-encoding" not in dict(headers)


async def test_a_client_that_leaves_in_the_answer_is_told_upstream(door: Door) -> None:
    gone = asyncio.Event()

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        await send(piece(b"one"))
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    door.upstream.replies["/v1/jobs/1/logs"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("GET /v1/jobs/1/logs"))
        await raw.head()
        assert await raw.chunk() == b"one"
    await asyncio.wait_for(gone.wait(), 5)


async def test_a_client_that_leaves_before_the_answer_is_told_upstream(door: Door) -> None:
    gone, asked = asyncio.Event(), asyncio.Event()

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    door.upstream.replies["/v1/runs/1"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("GET /v1/runs/1?wait=30s"))
        await asyncio.wait_for(asked.wait(), 5)
    await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize("length", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_in_the_upload_is_told_upstream(door: Door, length: str) -> None:
    async with wire(door.port) as raw:
        await raw.send(door.head("POST /v1/uploads", length), b"3\r\none\r\n")
        await eventually(lambda: door.upstream.asked("/v1/uploads"))
    await asyncio.wait_for(door.upstream.gone.wait(), 5)


@pytest.mark.parametrize("length", [None, b"100000"])
async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(door: Door, length: bytes | None) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin(200, *([] if length is None else [(b"content-length", length)])))
        await send(piece(b"one"))
        # What returns without the end of its answer has its connection closed.

    door.upstream.replies["/v1/models"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("GET /v1/models"))
        status, _ = await raw.head()
        rest = await raw.rest()

    assert status == 200
    assert rest in (b"3\r\none\r\n", b"one")  # cut, without the last chunk


async def test_a_small_answer_that_breaks_off_is_a_problem(door: Door) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin(200, (b"content-length", b"10")))
        await send(piece(b"one"))

    door.upstream.replies["/v1/models"] = reply
    async with door.client() as http:
        answered = await http.get("/v1/models")

    assert answered.status_code == 503
    assert answered.json()["code"] == "service-unavailable"


async def test_an_upload_of_any_size_takes_no_memory(door: Door) -> None:
    size, digest, seen = 200 * MEGABYTE, hashlib.sha256(), hashlib.sha256()
    part = bytes(range(256)) * 4096
    count = 0

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal count
        more = True
        while more:
            message = await receive()
            seen.update(message["body"])
            count += len(message["body"])
            more = message["more_body"]
        await answer(send, b'"done"')

    door.upstream.replies["/v1/uploads"] = reply
    async with wire(door.port) as raw:
        before = peak = resident()
        await raw.send(door.head("POST /v1/uploads", f"Content-Length: {size}"))
        for _ in range(size // len(part)):
            digest.update(part)
            await raw.send(part)
            peak = max(peak, resident())
        assert (await raw.head())[0] == 200

    assert (count, seen.digest()) == (size, digest.digest())
    assert peak - before < 30 * MEGABYTE


@pytest.mark.parametrize("target", ["/v1/jobs", "/v1/keys", "/v1/nowhere", "/v2/models/a/infer"])
@pytest.mark.parametrize("length", ["Content-Length: 1073741824", "Transfer-Encoding: chunked"])
async def test_a_body_of_a_gigabyte_reads_its_413(door: Door, target: str, length: str) -> None:
    chunk = b"a" * 65536
    framed = chunk if "Length" in length else b"%x\r\n%s\r\n" % (len(chunk), chunk)
    before = peak = resident()
    async with wire(door.port) as raw:
        await raw.send(door.head(f"POST {target}", "Content-Type: application/json", length))
        sending = asyncio.create_task(_push(raw.writer, framed, (1 << 30) // len(framed)))
        status, headers = await raw.head()
        peak = max(peak, resident())
        body = await raw.reader.readexactly(int(dict(headers)["content-length"]))
        sending.cancel()

    assert status == (404 if target == "/v1/nowhere" else 413)
    assert json.loads(body)["status"] == status
    assert peak - before < 50 * MEGABYTE
    assert door.upstream.asked("/v1/keys") == []


async def _push(writer: asyncio.StreamWriter, part: bytes, times: int) -> None:
    try:
        for _ in range(times):
            writer.write(part)
            await writer.drain()
    except OSError:
        return  # closed on us, after the answer


async def test_an_early_refusal_of_a_service_is_readable(door: Door) -> None:
    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer(send, b'{"status":413}', 413, {"content-type": "application/problem+json"})

    door.upstream.replies["/v1/uploads"] = reply
    async with wire(door.port) as raw:
        await raw.send(door.head("POST /v1/uploads", "Content-Length: 1073741824"))
        sending = asyncio.create_task(_push(raw.writer, b"a" * 65536, 1 << 14))
        status, _ = await raw.head()
        assert (status, await raw.reader.readexactly(14)) == (413, b'{"status":413}')
        sending.cancel()


async def test_a_body_that_stops_is_not_waited_for(door: Door) -> None:
    async with wire(door.port) as raw:
        await raw.send(door.head("POST /v1/uploads", "Content-Length: 100000"), b"a")
        status, _ = await raw.head()

    assert status == 408
    await asyncio.wait_for(door.upstream.gone.wait(), 5)


async def test_requests_on_one_connection_stay_apart(door: Door) -> None:
    async with wire(door.port) as raw:
        await raw.send(*[door.head(f"GET /v1/models/{number}") for number in range(20)])
        targets = []
        for _ in range(20):
            _, headers = await raw.head()
            targets.append(json.loads(await raw.reader.readexactly(int(dict(headers)["content-length"])))["target"])

    assert targets == [f"/v1/models/{number}" for number in range(20)]


async def test_many_at_once(door: Door) -> None:
    async with door.client() as http:
        answers = await asyncio.gather(*[http.get(f"/v1/models/{number}") for number in range(200)])

    assert [it.json()["target"] for it in answers] == [f"/v1/models/{number}" for number in range(200)]


async def test_the_answer_of_a_cut_connection_leaves_the_next_one_whole(door: Door) -> None:
    """A connection to a service that a client broke off is not used again."""
    for _ in range(5):
        async with wire(door.port) as raw:
            await raw.send(door.head("POST /v1/uploads", "Content-Length: 1000"), b"abc")
            await eventually(lambda: door.upstream.asked("/v1/uploads"))
        door.upstream.seen.clear()
    async with door.client() as http:
        answers = await asyncio.gather(*[http.get(f"/v1/models/{number}") for number in range(20)])
    assert [it.json()["target"] for it in answers] == [f"/v1/models/{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("method", "target", "least"),
    [
        ("GET", "/v2/models/a/config", "viewer"),
        ("GET", "/v2/models/a/versions/3/config", "viewer"),
        ("GET", "/v2/models/a/stats", "viewer"),
        ("GET", "/v2/models/a/versions/3/stats", "viewer"),
        ("GET", "/v2/models/stats", "viewer"),
        ("POST", "/v2/repository/index", "viewer"),
        ("POST", "/v2/repository/models/a/load", "editor"),
        ("POST", "/v2/repository/models/a/unload", "editor"),
        ("POST", "/v2/models/a/infer", "viewer"),
        ("POST", "/v2/models/a/versions/3/infer", "viewer"),
    ],
)
async def test_every_route_of_the_inference_protocol_reaches_serving(
    door: Door, key_folder: KeyFolder, method: str, target: str, least: str
) -> None:
    body = b'{"ready": true}' if method == "POST" else b""
    headers = {"inference-header-content-length": "15", "accept-encoding": "deflate"} if body else {}
    async with door.client(least) as http:
        said = (await http.request(method, target, content=body, headers=headers)).json()
    assert (said["method"], said["target"], said["size"]) == (method, target, len(body))
    assert headers.items() <= dict(said["headers"]).items()
    assert caller_of(door.upstream.seen[-1], key_folder, "serving").role == Role(least)
    if least == "editor":
        async with door.client("viewer") as http:
            refused = await http.request(method, target, content=body)
        assert (refused.status_code, set(refused.json()) >= {"error"}) == (403, True)
        assert len(door.upstream.asked(target)) == 1
