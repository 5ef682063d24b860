"""Requests to the services, streamed both ways: one exchange at a time, with its errors kept apart.

A request that never left may go to another copy of the service. One that was sent may be done by now, so that only one
that may be done twice is sent again, once.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from http import HTTPStatus

import aiohttp
from prometheus_client import Counter, Gauge

from gateway.clients.connections import Unreached
from gateway.clients.exchanges import Answer, Outgoing
from gateway.clients.http import Clients
from gateway.domain.endpoints import FAILURES, Endpoint, Pool
from kit import errors, tracing

TRIES = 3
BUSY = HTTPStatus.SERVICE_UNAVAILABLE
SOON = timedelta(seconds=1)

REQUESTS = Counter(
    "trainyard_gateway_upstream_requests_total", "Requests sent to copies of services.", ["service", "outcome"]
)
EJECTED = Counter("trainyard_gateway_ejections_total", "Copies that were left alone for a while.", ["service"])
CLOSED = Gauge("trainyard_gateway_ejected_endpoints", "Copies that are left alone just now.", ["service"])
IN_FLIGHT = Gauge("trainyard_gateway_upstream_in_flight", "Requests that services are answering.", ["service"])


class ServiceUnavailable(errors.Unavailable): ...


class Exchange:
    """A request that a service has begun to answer. To be ended, whatever happens."""

    __slots__ = ("_endpoint", "_span", "answer")

    def __init__(self, answer: Answer, endpoint: Endpoint, span: tracing.Span | None) -> None:
        self.answer = answer
        self._endpoint = endpoint
        self._span = span

    async def end(self) -> None:
        self._endpoint.in_flight -= 1
        if self._span is not None:
            tracing.end(self._span)
        await self.answer.release()


class Upstreams:
    """The services, each with its endpoints."""

    def __init__(self, urls: Mapping[str, Sequence[str]], clients: Clients) -> None:
        self.pools = {service: Pool(endpoints) for service, endpoints in urls.items()}
        self._clients = clients
        self._answered_by = {service: REQUESTS.labels(service, "answered") for service in self.pools}
        for service, pool in self.pools.items():
            CLOSED.labels(service).set_function(partial(_ejected, pool))
            IN_FLIGHT.labels(service).set_function(partial(_in_flight, pool))

    @contextlib.asynccontextmanager
    async def send(self, request: Outgoing) -> AsyncIterator[Answer]:
        """As `begin`, for what is done inside."""
        exchange = await self.begin(request)
        try:
            yield exchange.answer
        finally:
            await exchange.end()

    async def begin(self, request: Outgoing) -> Exchange:
        """The answer of the service, once its head is there.

        Raises:
            ServiceUnavailable: nobody there can answer now.
            aiohttp.ClientError: the client broke off in the middle of its body.
        """
        pool = self.pools[request.service]
        failed: list[str] = []
        moved = False
        for _ in range(TRIES):
            now = time.monotonic()
            # Another copy if there is one; else the same again.
            endpoint = pool.pick(now, failed) or pool.pick(now)
            if endpoint is None:
                break
            try:
                exchange = await self._attempt(request, endpoint)
            except aiohttp.ClientError as exc:
                if request.spoiled:
                    raise
                if not self._goes_on(request, endpoint, exc, failed):
                    break
            else:
                if moved or exchange.answer.status != BUSY or not _may_move(request, endpoint, pool):
                    return exchange
                moved = True
                failed.append(endpoint.url)
                await exchange.end()
        raise ServiceUnavailable(f"The service {request.service} is not answering.", retry_after=SOON)

    def _goes_on(self, request: Outgoing, endpoint: Endpoint, exc: aiohttp.ClientError, failed: list[str]) -> bool:
        """Note that an attempt failed. Whether there is to be another."""
        failed.append(endpoint.url)
        pool = self.pools[request.service]
        if isinstance(exc, Unreached):
            if exc.refused:
                pool.refused(endpoint, time.monotonic())
            else:
                self._failed(request.service, endpoint)
            return len(failed) < len(pool.endpoints)  # all copies refuse: the client waits better than we do
        self._failed(request.service, endpoint)
        silent = isinstance(exc, TimeoutError)  # the client has waited long enough
        return not silent and not request.begun and request.repeatable and len(failed) <= 1

    async def _attempt(self, request: Outgoing, endpoint: Endpoint) -> Exchange:
        span = None
        if tracing.is_on():
            span = tracing.begin_call(request.service, request.method, request.path)
        context = tracing.said_in(span)
        headers = request.headers if context is None else [*request.headers, (b"traceparent", context.encode("ascii"))]
        endpoint.in_flight += 1
        try:
            answer = await self._clients.answer(request, endpoint, headers)
        except BaseException as exc:
            endpoint.in_flight -= 1
            tracing.end(span, exc)
            REQUESTS.labels(request.service, "failed" if isinstance(exc, aiohttp.ClientError) else "given-up").inc()
            raise
        endpoint.answered()
        self._answered_by[request.service].inc()
        if span is not None:
            tracing.answered(span, answer.status)
        return Exchange(answer, endpoint, span)

    def _failed(self, service: str, endpoint: Endpoint) -> None:
        endpoint.failed(time.monotonic())
        if endpoint.failures == FAILURES:
            EJECTED.labels(service).inc()


def _may_move(request: Outgoing, endpoint: Endpoint, pool: Pool) -> bool:
    """Whether another copy is to be asked, since this one says that it cannot."""
    if not request.changes_nothing:
        return False
    now = time.monotonic()
    endpoint.overloaded(now)
    return not request.begun and pool.has_other(endpoint, now)


def _ejected(pool: Pool) -> float:
    now = time.monotonic()
    return sum(not endpoint.is_open(now) for endpoint in pool.endpoints)


def _in_flight(pool: Pool) -> float:
    return sum(endpoint.in_flight for endpoint in pool.endpoints)
