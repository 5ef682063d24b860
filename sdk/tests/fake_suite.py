"""A suite made of scripted answers: behind a transport for the client, behind a real socket for the command line."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2


@dataclass(frozen=True)
class Answer:
    """One answer; a `broken` one loses its connection after the body, as if more were to come."""

    status: int = 200
    value: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    text: str | bytes | None = None
    broken: bool = False

    @property
    def body(self) -> bytes:
        if self.text is not None:
            return self.text.encode() if isinstance(self.text, str) else self.text
        return b"" if self.value is None else json.dumps(self.value).encode()


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Lost = Answer(status=0)  # the connection is refused


def problem(status: int, detail: str, **more: Any) -> Answer:
    """A problem document."""
    headers = {"content-type": "application/problem+json", **more.pop("headers", {})}
    return Answer(status, {"status": status, "detail": detail, **more}, headers)


class FakeSuite:
    """Answers in the order they were given for a route; the last one stays."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """What to answer there, one after the other."""
        self._answers[method, path] = list(answers)

    def of(self, method: str, path: str) -> list[Asked]:
        """What was asked there."""
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answers = self._answers.get((asked.method, asked.path))
        if answers is None:
            return problem(404, f"There is no {asked.path}.", code="not-found", request_id="req-1")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def transport(self) -> httpx2.MockTransport:
        """For a client in this process."""

        def handle(request: httpx2.Request) -> httpx2.Response:
            url = urlsplit(str(request.url))
            headers = {name.lower(): value for name, value in request.headers.items()}
            answer = self.answer(Asked(request.method, url.path, dict(parse_qsl(url.query)), headers, request.read()))
            if answer is Lost:
                raise httpx2.ConnectError("refused", request=request)
            content: Any = _broken(answer.body) if answer.broken else answer.body
            return httpx2.Response(answer.status, headers=answer.headers, content=content)

        return httpx2.MockTransport(handle)

    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url="http://suite", transport=self.transport())

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Behind a socket of this machine; answers its URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _broken(body: bytes) -> Iterator[bytes]:
    yield body
    raise httpx2.ReadError("connection lost")


def _handler_of(suite: FakeSuite) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, url.path, dict(parse_qsl(url.query)), headers, self._body(headers))
            answer = suite.answer(asked)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body) + (1 if answer.broken else 0)))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.broken

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # names of the base class

        def _body(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(headers.get("content-length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest shows what matters."""

    return Handler
