"""Both ends of a measured server, on loopback: who asks, and for a proxy who answers behind it.

    python benchmarks/loopback.py echo PORT                        answers each request with its body, or with `{}`
    python benchmarks/loopback.py load URL FILE CONNECTIONS SECONDS [HEADER …]   asks, one at a time on each

`load` prints one JSON object: requests, failures, seconds, p50 and p99 in milliseconds. Both are one Protocol on uvloop
without a framework, so that neither is what is measured.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

LONGEST = 1 << 16
"""Bytes that are echoed; of a longer body nothing is kept."""


class Echo(asyncio.Protocol):
    """One connection of the upstream."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if len(self._body) + len(body) <= LONGEST else b""

    def on_message_complete(self) -> None:
        body, self._body = self._body or b"{}", b""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


class Asker(asyncio.Protocol):
    """One connection of the load: the next request goes when the last answer is whole."""

    def __init__(self, request: bytes, until: float, times: list[float]) -> None:
        self._request = request
        self._until = until
        self._times = times
        self.failures = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._asked >= self._until:
            self._transport.close()
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.failures += 1
            self._transport.close()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() == 200:
            self._times.append(time.perf_counter() - self._asked)
        else:
            self.failures += 1
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failures += time.perf_counter() < self._until
        if not self.done.done():
            self.done.set_result(None)


async def echo(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def load(url: str, body: bytes, connections: int, seconds: float, headers: list[str]) -> dict[str, float]:
    """What came of asking for so long."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    method = "POST" if body else "GET"
    lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: */*", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode("ascii") + body
    began, times = time.perf_counter(), []  # type: tuple[float, list[float]]
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Asker(request, began + seconds, times), host, port)
        for _ in range(connections)
    ]
    await asyncio.wait([asker.done for _, asker in made], timeout=seconds + 30)
    times.sort()
    return {
        "requests": len(times),
        "failures": sum(asker.failures for _, asker in made),
        "seconds": time.perf_counter() - began,
        "p50": 1e3 * times[len(times) // 2] if times else float("nan"),
        "p99": 1e3 * times[len(times) * 99 // 100] if times else float("nan"),
    }


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["echo"]:
        uvloop.run(echo(int(arguments[1])))
        return 0
    _, url, file, connections, seconds, *headers = arguments
    body = Path(file).read_bytes()
    sys.stdout.write(json.dumps(uvloop.run(load(url, body, int(connections), float(seconds), headers))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
