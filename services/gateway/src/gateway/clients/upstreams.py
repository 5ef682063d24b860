"""Requests to the services, streamed both ways: one exchange at a time, with its errors kept apart.

A request that never left may go to another copy of the service. One that was sent may be done by now, so that only one
that may be done twice is sent again, once.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs
from prometheus_client import Counter, Gauge
from yarl import URL

from gateway.domain.endpoints import FAILURES, Endpoint, Pool
from gateway.domain.requests import SAFE
from kit import errors, tracing

# No automatic header: a service sees what the client sent.
SILENT = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)
TRIES = 3
SOON = timedelta(seconds=1)

REQUESTS = Counter(
    "trainyard_gateway_upstream_requests_total", "Requests sent to copies of services.", ["service", "outcome"]
)
EJECTED = Counter("trainyard_gateway_ejections_total", "Copies that were left alone for a while.", ["service"])
CLOSED = Gauge("trainyard_gateway_ejected_endpoints", "Copies that are left alone just now.", ["service"])
IN_FLIGHT = Gauge("trainyard_gateway_upstream_in_flight", "Requests that services are answering.", ["service"])

Body = Callable[[], AsyncIterator[bytes]]


class ServiceUnavailable(errors.Unavailable): ...


class Outgoing:
    """One request to a service."""

    def __init__(
        self,
        service: str,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: Body | bytes | None = None,
        *,
        changes_nothing: bool = False,
        has_key: bool = False,
    ) -> None:
        """`target` is the path with its query, as it came: encoded, and never decoded and encoded again.

        One that changes nothing may be asked of another copy when the first says that it cannot. One that has an
        `Idempotency-Key` is done once, however often it is sent.
        """
        self.service = service
        self.method = method
        self.target = target
        self.headers = headers
        self._body = body
        self.changes_nothing = changes_nothing
        self.repeatable = changes_nothing or has_key or method in SAFE
        self.begun = False
        """Whether the body was asked for: it is there once."""
        self.spoiled = False
        """Whether it was the client who failed: that says nothing of the service."""

    @property
    def path(self) -> str:
        """The target without its query, which may hold what is nobody else's business."""
        return self.target.partition("?")[0]

    def content(self) -> AsyncIterator[bytes] | bytes | None:
        return self._read(self._body) if callable(self._body) else self._body

    async def _read(self, body: Body) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            async for part in body():
                yield part
        except BaseException:
            self.spoiled = True
            raise


class Upstreams:
    """The services, each with its endpoints."""

    def __init__(self, urls: Mapping[str, Sequence[str]], session: aiohttp.ClientSession) -> None:
        self.pools = {service: Pool(endpoints) for service, endpoints in urls.items()}
        self._session = session
        self._answered_by = {service: REQUESTS.labels(service, "answered") for service in self.pools}
        for service, pool in self.pools.items():
            CLOSED.labels(service).set_function(partial(_ejected, pool))
            IN_FLIGHT.labels(service).set_function(partial(_in_flight, pool))

    @contextlib.asynccontextmanager
    async def send(self, request: Outgoing) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of the service, once its head is there. Its body is read inside.

        Raises:
            ServiceUnavailable: nobody there can answer now.
            aiohttp.ClientError: the service broke off in the middle of its answer.
        """
        async with contextlib.AsyncExitStack() as stack:
            yield await self._answered(request, stack)

    async def _answered(self, request: Outgoing, stack: contextlib.AsyncExitStack) -> aiohttp.ClientResponse:
        pool = self.pools[request.service]
        failed: list[str] = []
        moved = False
        for _ in range(TRIES):
            # Another copy if there is one; else the same again.
            endpoint = pool.pick(time.monotonic(), failed) or pool.pick(time.monotonic())
            if endpoint is None:
                break
            try:
                response = await self._attempt(request, endpoint, stack)
                if moved or not _may_move(request, response, endpoint, pool):
                    return response
                moved = True
                failed.append(endpoint.url)
                await stack.aclose()
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:  # it never left
                if isinstance(getattr(exc, "os_error", None), ConnectionRefusedError):
                    pool.refused(endpoint, time.monotonic())
                else:
                    self._failed(request.service, endpoint)
                failed.append(endpoint.url)
                if len(failed) >= len(pool.endpoints):
                    break  # all copies refuse: the client waits better than we do
            except aiohttp.ClientError as exc:
                if request.spoiled:
                    raise
                self._failed(request.service, endpoint)
                failed.append(endpoint.url)
                silent = isinstance(exc, TimeoutError)  # the client has waited long enough
                if silent or request.begun or not request.repeatable or len(failed) > 1:
                    break
        raise ServiceUnavailable(f"The service {request.service} is not answering.", retry_after=SOON)

    async def _attempt(
        self, request: Outgoing, endpoint: Endpoint, stack: contextlib.AsyncExitStack
    ) -> aiohttp.ClientResponse:
        url = URL(endpoint.url + request.target, encoded=True)
        headers = request.headers if endpoint.host is None else [*request.headers, (hdrs.HOST, endpoint.host)]
        span = tracing.begin_call(request.service, request.method, request.path)
        if (context := tracing.said_in(span)) is not None:
            headers = [*headers, ("traceparent", context)]
        exchange = self._session.request(
            request.method,
            url,
            headers=headers,
            data=request.content(),
            allow_redirects=False,
            server_hostname=endpoint.name,
        )
        endpoint.in_flight += 1
        try:
            response = await exchange.__aenter__()
        except BaseException as exc:
            _leave(endpoint)
            tracing.end(span, exc)
            REQUESTS.labels(request.service, "failed" if isinstance(exc, aiohttp.ClientError) else "given-up").inc()
            raise
        stack.callback(_leave, endpoint)
        stack.push_async_exit(exchange)
        endpoint.answered()
        self._answered_by[request.service].inc()
        if span is not None:
            tracing.answered(span, response.status)
            stack.callback(tracing.end, span)
        return response

    def _failed(self, service: str, endpoint: Endpoint) -> None:
        endpoint.failed(time.monotonic())
        if endpoint.failures == FAILURES:
            EJECTED.labels(service).inc()


def _may_move(request: Outgoing, response: aiohttp.ClientResponse, endpoint: Endpoint, pool: Pool) -> bool:
    """Whether another copy is to be asked, since this one says that it cannot."""
    if response.status != HTTPStatus.SERVICE_UNAVAILABLE or not request.changes_nothing:
        return False
    now = time.monotonic()
    endpoint.overloaded(now)
    return not request.begun and pool.has_other(endpoint, now)


def _ejected(pool: Pool) -> float:
    now = time.monotonic()
    return sum(not endpoint.is_open(now) for endpoint in pool.endpoints)


def _in_flight(pool: Pool) -> float:
    return sum(endpoint.in_flight for endpoint in pool.endpoints)


def _leave(endpoint: Endpoint) -> None:
    endpoint.in_flight -= 1


@contextlib.asynccontextmanager
async def session(*, answer_within: timedelta) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that adds nothing and hides nothing.

    `answer_within` is how long a service may be silent: longer than any long poll, shorter than for ever.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=answer_within.total_seconds())
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=SILENT,
        trust_env=False,
        read_bufsize=1 << 16,
    ) as client:
        # It would send PUT and DELETE again by itself when a kept connection turns out to be closed.
        client._retry_connection = False
        yield client
