"""Listens for gRPC in the event loop of HTTP. What it takes is known to be allowed before it is read, and bounded."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio

from kit import errors
from kit.guard import bearer_of
from kit.tokens import Verifier
from serving.api import deadlines
from serving.api.predict import LARGE, LIMIT, beside
from serving.grpc import refusals
from serving.grpc.asking import Application, Asker, Gone
from serving.grpc.calls import CALLS, Call, Request
from serving.grpc.schema import SERVICE

log = logging.getLogger(__name__)
CONCURRENT = 256
"""Calls at one time, each with a message of 4 MiB at most; more are told RESOURCE_EXHAUSTED before they are read."""
METADATA = 16 << 10
SLOW = 15.0
"""Seconds for the whole message."""
GRACE = 5.0
"""Seconds for calls under way when the process ends; it has said for long that it will."""
PASSED = frozenset({"authorization", "x-request-id", "traceparent", "tracestate"})
"""Metadata that are headers of the request."""
OPTIONS = (
    ("grpc.max_receive_message_length", LIMIT),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", METADATA),
    ("grpc.absolute_max_metadata_size", METADATA),
    ("grpc.max_concurrent_streams", CONCURRENT),
    ("grpc.max_connection_idle_ms", 300_000),
    # So that new replicas hear of callers that stay: a connection is to one process, whatever balances them.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
)
IDENTITY = b"x-request-id"
LEAST = 1e-6
Headers = list[tuple[bytes, bytes]]


@contextlib.asynccontextmanager
async def served(
    app: Application, state: Mapping[str, Any], verifier: Verifier, *, host: str, port: int, slow: float = SLOW
) -> AsyncIterator[int]:
    """Answer gRPC on a port, which it says, by asking the application. A message may take `slow` seconds to come."""
    asker = Asker(app, state)
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=CONCURRENT)
    # Unary calls are streams of one message, and only a handler of these is asked before the message is there.
    handlers: dict[str, Any] = {
        name: grpc.stream_unary_rpc_method_handler(_Handler(call, asker, verifier, slow).answer)
        for name, call in CALLS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    await server.start()
    log.info("gRPC", extra={"port": bound})
    try:
        yield bound
    finally:
        await server.stop(GRACE)
        await asker.close(GRACE)


class _Handler:
    """One call of the protocol."""

    def __init__(self, call: Call, asker: Asker, verifier: Verifier, slow: float) -> None:
        self._call = call
        self._asker = asker
        self._slow = slow
        self._verifier = verifier

    async def answer(self, messages: object, context: Any) -> bytes:
        """The answer's bytes; else the call ends with the status that says why."""
        try:
            headers = self._allowed(context)
            request = await self._read(context)
            answer = await self._asker.ask(request, headers + _deadline(context))
            trailers = [(name.decode(), value.decode()) for name, value in answer.headers.items() if name == IDENTITY]
            if answer.status == 200 or answer.status in self._call.also:
                context.set_trailing_metadata(trailers)
                return await beside(len(answer.body) > LARGE, self._call.message_of, answer)
            refused = refusals.of_answer(answer)
        except Gone:
            refused, trailers = refusals.Refused(grpc.StatusCode.CANCELLED, "Nobody waits for the answer."), []
        except Exception as exc:  # noqa: BLE001 - the edge of this protocol: whatever it is, it becomes a status
            refused, trailers = refusals.of_error(exc), []
        await context.abort(refused.code, refused.said, (*trailers, *refused.trailers))
        raise AssertionError("abort raises")

    def _allowed(self, context: Any) -> Headers:
        """The headers that the metadata are.

        Raises:
            errors.Unauthenticated: nobody may be asked with them; the message is not read.
        """
        given = [(name.encode(), value.encode()) for name, value in context.invocation_metadata() if name in PASSED]
        self._verifier.verify(bearer_of({"headers": given}))
        return given

    async def _read(self, context: Any) -> Request:
        """
        Raises:
            errors.Malformed: there is no message, or another one.
            errors.TimedOut: it has not come in time.
            errors.Invalid, errors.NotFound: it cannot be asked.
        """
        try:
            async with asyncio.timeout(self._slow):
                content = await context.read()
        except TimeoutError:
            raise errors.TimedOut(f"The message has not come within {self._slow:g} s.") from None
        if not isinstance(content, bytes):
            raise errors.Malformed("There is no message.")
        return await beside(len(content) > LARGE, self._call.request_of, content)


def _deadline(context: Any) -> Headers:
    """For how long the client still waits, if it says so."""
    left = context.time_remaining()
    if left is None:
        return []
    if left <= 0:
        raise errors.TimedOut("The time that the caller gave is over.")
    return [(deadlines.HEADER, f"{min(max(left, LEAST), deadlines.LONGEST):.6f}".encode())]
