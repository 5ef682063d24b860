"""Bodies at the edge of an application: never more bytes than the route takes, and only strict JSON."""

import httpx2
import pytest
from starlette.types import Message

from kit import bodies, errors
from kit.bodies import JSON_LIMIT, ClientGone
from kit.callers import Access, Role
from kit.routes import Match

JSON = {"content-type": "application/json"}


class Incoming:
    """What a client sends, message by message."""

    def __init__(self, *parts: bytes, gone: bool = False, announced: str | None = None) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        self._messages.append({"type": "http.disconnect"} if gone else {"type": "http.request"})
        self.scope = {"headers": [(b"content-length", announced.encode())] if announced else []}
        self.taken = 0

    async def receive(self) -> Message:
        self.taken += 1
        return self._messages.pop(0)


async def test_a_body_comes_in_pieces() -> None:
    coming = Incoming(b"ab", b"", b"cd")
    assert await bodies.read(coming.scope, coming.receive, limit=4) == b"abcd"


async def test_a_body_that_comes_at_once_is_held_to_the_limit_too() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"abc"}

    assert await bodies.read({"headers": []}, receive, limit=3) == b"abc"
    with pytest.raises(errors.TooLarge):
        await bodies.read({"headers": []}, receive, limit=2)


async def test_a_body_that_is_announced_as_too_large_is_not_read() -> None:
    coming = Incoming(b"abcde", announced="5")
    with pytest.raises(errors.TooLarge):
        await bodies.read(coming.scope, coming.receive, limit=4)
    assert coming.taken == 0


@pytest.mark.parametrize("announced", [None, "3", "x", "-1"])
async def test_a_body_that_grows_too_large_is_not_read_to_its_end(announced: str | None) -> None:
    coming = Incoming(b"abc", b"de", b"never", announced=announced)
    with pytest.raises(errors.TooLarge):
        await bodies.read(coming.scope, coming.receive, limit=4)
    assert coming.taken == 2


async def test_a_client_that_leaves_is_noticed() -> None:
    coming = Incoming(b"ab", gone=True)
    with pytest.raises(ClientGone):
        await bodies.read(coming.scope, coming.receive, limit=4)


async def test_a_json_body_has_a_limit(client: httpx2.AsyncClient) -> None:
    def named(size: int) -> bytes:
        return b'{"name":"%s"}' % (b"a" * (size - len(b'{"name":""}')))

    fits = await client.post("/v1/lamps", content=named(JSON_LIMIT), headers=JSON)
    assert fits.status_code == 422  # such a long name is another matter
    answer = await client.post("/v1/lamps", content=named(JSON_LIMIT + 1), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "content-too-large")

    async def endless() -> object:  # without a length
        while True:
            yield b" " * 65536

    answer = await client.post("/v1/lamps", content=endless(), headers=JSON)  # type: ignore[arg-type]  # an iterator of bytes
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "media",
    ["application/json", "application/json; charset=utf-16", "Application/JSON", "application/merge-patch+json"],
)
@pytest.mark.parametrize(
    "raw", [b'{"name": "a", "name": "b"}', b'{"name": NaN}', b'{"name": "a\\u0000"}', '{"name": "a"}'.encode("utf-16")]
)
async def test_only_strict_json_reaches_a_route(client: httpx2.AsyncClient, media: str, raw: bytes) -> None:
    answer = await client.post("/v1/lamps", content=raw, headers={"content-type": media})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/jsonx"}])
async def test_what_does_not_say_that_it_is_json_is_not_read_as_json(
    client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.post("/v1/lamps", content=b'{"name": "a", "name": "b"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")


async def test_a_control_route_takes_no_encoded_body(client: httpx2.AsyncClient) -> None:
    for encoding, status in (("gzip", 415), ("identity", 201)):
        answer = await client.post("/v1/lamps", json={"name": "red"}, headers={"content-encoding": encoding})
        assert answer.status_code == status


async def test_a_route_that_streams_reads_its_own_body(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/lamps/stream", content=b'{"a": 1, "a": 2}', headers=JSON)
    assert (answer.status_code, answer.json()["name"]) == (202, '{"a": 1, "a": 2}')


async def test_a_raw_route_reads_and_limits_its_own_body(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/echo/a/b", content=b"0123456789")
    assert (answer.status_code, answer.content) == (200, b"a/b 0123456789")
    answer = await client.post("/v1/echo/a/b", content=b"0123456789x")
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_nobody_is_answered_who_has_left(client: httpx2.AsyncClient) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    coming = Incoming(b"{", gone=True)
    scope = {**coming.scope, "type": "http", "method": "POST", "state": {"match": Match("/", Access(Role.EDITOR))}}
    await bodies.StrictBodies(_never)(scope, coming.receive, send)
    assert sent == []


async def _never(*_: object) -> None:
    raise AssertionError


async def test_a_body_is_given_once_and_then_what_follows() -> None:
    async def later() -> Message:
        return {"type": "http.disconnect"}

    again = bodies._replay(b"all", later)
    assert await again() == {"type": "http.request", "body": b"all", "more_body": False}
    assert await again() == {"type": "http.disconnect"}
