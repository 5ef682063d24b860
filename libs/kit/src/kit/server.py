"""The one way a service listens: uvicorn behind our edge, and an end that loses no request.

Asked to stop, a server says that it is not ready, keeps serving while whoever routes to it learns that, then accepts
nothing more, finishes what it has begun, and returns.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

from kit import edge
from kit.edge_rules import Limits

log = logging.getLogger(__name__)
KEEP_ALIVE = 75
"""Seconds; longer than any client of ours keeps an idle connection, so that it is never us who closes first."""


class Application(Protocol):
    """What is served. `draining` is set when the process is asked to end."""

    draining: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Unfinished(Exception):
    """Requests were cut off because they took longer than the grace."""


class LifespanFailed(Exception):
    """The application could not begin, or did not end well; why is in the log."""


class _Server(uvicorn.Server):
    overrun = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the process's, which has more to end than a server. uvicorn would also raise them again.
        yield

    async def _wait_tasks_to_complete(self) -> None:
        try:
            await super()._wait_tasks_to_complete()
        except asyncio.CancelledError:  # by the end of the grace
            self.overrun = True
            raise


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def serve(
    app: Application,
    *,
    host: str,
    port: int,
    drain: timedelta,
    stop: asyncio.Event,
    grace: timedelta = timedelta(seconds=25),
    limits: Limits | None = None,
    sockets: list[socket.socket] | None = None,
) -> None:
    """Serve until `stop` is set and all that was begun is answered.

    `drain` is how long to go on after `stop`; `grace` how long the last requests have then.

    Raises:
        Unfinished: the grace was not enough for all of them.
        LifespanFailed: the application could not begin, or did not end well.
    """
    config = uvicorn.Config(
        app,
        http=edge.protocol_with(limits or Limits()),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(grace.total_seconds())),
    )
    server = _Server(config)
    bound = sockets or [listen(host, port)]
    ending = asyncio.create_task(_end(server, app, drain, stop))
    try:
        await server.serve(bound)
    except SystemExit:
        # uvicorn would end the process here, without an end for anything else in it.
        raise LifespanFailed("The application could not begin.") from None
    finally:
        ending.cancel()
        for it in bound:
            it.close()
    if server.lifespan.shutdown_failed:
        raise LifespanFailed("The application did not end well.")
    if server.overrun:
        raise Unfinished(f"Requests were cut off after {grace.total_seconds():g} s.")


async def _end(server: uvicorn.Server, app: Application, drain: timedelta, stop: asyncio.Event) -> None:
    await stop.wait()
    app.draining = True
    for connection in server.server_state.connections:
        if isinstance(connection, edge.EdgeProtocol):
            connection.leave()
    log.info("draining", extra={"seconds": drain.total_seconds()})
    await asyncio.sleep(drain.total_seconds())
    server.should_exit = True
