"""A collector of traces: takes OTLP over HTTP, keeps every span, and can refuse, stall and vanish."""

import contextlib
import gzip
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span as it arrived."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    kind: int
    """As the protocol numbers kinds: 1 internal, 2 server, 3 client."""
    failed: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


class Collector:
    """Its address is `url`; what it was told is in `spans`."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = 200
        self.release = threading.Event()
        self.release.set()
        """Cleared, no request is answered."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator["Collector"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.release.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def trace_of(self, service: str, name: str) -> str:
        """The trace that a span of this name is in."""
        found = {span.trace for span in self.spans if (span.service, span.name) == (service, name)}
        assert len(found) == 1, found
        return found.pop()

    def of(self, trace: str) -> list[Seen]:
        return [span for span in self.spans if span.trace == trace]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            said = {it.key: it.value.string_value for it in resource.resource.attributes}
            self.spans += [
                Seen(
                    said["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.kind,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    {it.key: it.value.string_value or str(it.value.int_value) for it in span.attributes},
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]


def _handler_of(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.release.wait()
            if collector.status == 200 and self.path == "/v1/traces":
                packed = self.headers.get("content-encoding") == "gzip"
                collector.take(gzip.decompress(body) if packed else body)
            self.send_response(collector.status if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
