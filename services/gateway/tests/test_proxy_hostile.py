"""Requests that two readers could understand in two ways: they go nowhere."""

import pytest

from .gateways import Door, wire

READ_BY_ITSELF = {"/openapi.json"}
"""By the gateway, now and then."""


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../metrics",
        "/v1/datasets/../../internal/v1/events",
        "/v1/datasets/%2e%2e/x",
        "/v1/datasets/..%2f..%2finternal",
        "/v1/datasets/./x",
        "/v1/datasets/%00",
        "/v1/datasets/%0d%0aX: y",
        "/v1/datasets/a%5cb",
        "/v1/datasets/\\x",
        "/v1/datasets/%ff",
        "http://registry/internal/v1/events",
        "*",
    ],
)
async def test_what_two_readers_could_understand_in_two_ways_goes_nowhere(door: Door, target: str) -> None:
    before = len(door.upstream.seen)
    async with wire(door.port) as raw:
        await raw.send(door.head(f"GET {target}"))
        status, headers = await raw.head()

    assert status == 400
    assert dict(headers)["content-type"] == "application/problem+json"
    assert [scope["path"] for scope in door.upstream.seen[before:] if scope["path"] not in READ_BY_ITSELF] == []


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length : 5",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding:\n chunked",),
        ("Upgrade: h2c", "Connection: upgrade", "Content-Length: 5"),
        ("X: a\rb",),
        ("X: a\x00b",),
    ],
)
async def test_one_request_is_never_two(door: Door, headers: tuple[str, ...]) -> None:
    inner = b"GET /v1/models/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    async with wire(door.port) as raw:
        await raw.send(door.head("POST /v1/jobs", *headers), b"0\r\n\r\n", inner)
        status, _ = await raw.head()
        rest = await raw.rest()

    assert status == 400
    assert b"HTTP/1.1" not in rest
    assert [scope["path"] for scope in door.upstream.seen if scope["path"] not in READ_BY_ITSELF] == []
