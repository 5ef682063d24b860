"""Requests for the services, passed on as they are: streamed both ways, under a token that says who asks."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
from starlette.types import Receive, Scope, Send

from gateway.api import exchange
from gateway.api.exchange import Incoming
from gateway.api.state import Parts
from gateway.clients.upstreams import SOON, Body, Outgoing, ServiceUnavailable
from gateway.domain import headers as rules
from gateway.domain.requests import OBJECTS, Operation, body_limit, operation_of, service_of
from kit import errors, sse
from kit.bodies import ClientGone, answer_problem
from kit.callers import Access, Caller, Role
from kit.routes import VERBS, RawRoute
from kit.tokens import Signer

log = logging.getLogger(__name__)
SMALL = 64 * 1024
"""Bodies and answers of no more bytes are sent in one piece."""

_WAIT = re.compile(r"([?&])wait=[^&]*")
EVENT_END = b"\n\n"
LOOK = 1.0
"""Seconds in which a silent stream of events learns that this process is asked to end."""


class Proxy:
    """The raw ASGI application behind every path that belongs to a service."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = body_limit(scope["method"], scope["path"], rules.value_of(scope["headers"], b"content-type"))
        incoming = Incoming(receive, limit)
        try:
            async with incoming.watched():
                await self._pass_on(scope, incoming, limit, send)
        except ClientGone:
            log.info("client left", extra={"method": scope["method"]})
        except (errors.Error, aiohttp.ClientError) as exc:
            if not incoming.answering:
                await answer_problem(scope, send, exc if isinstance(exc, errors.Error) else _broke_off(scope))
                return
            # In the middle of an answer: nothing more is sent, and the connection ends without the last chunk,
            # so that the client cannot take a part for the whole.
            log.warning("service broke off", extra={"error": type(exc).__name__})

    async def _pass_on(self, scope: Scope, incoming: Incoming, limit: int | None, send: Send) -> None:
        request = await self._outgoing(scope, incoming, limit)
        try:
            if request.method != "GET" or not _WAIT.search(request.target):
                await _exchange(scope, request, incoming, send)
            else:
                await _wait(scope, request, incoming, send)
        except (errors.Error, aiohttp.ClientError):
            if incoming.failure is not None:
                raise incoming.failure from None
            raise

    async def _outgoing(self, scope: Scope, incoming: Incoming, limit: int | None) -> Outgoing:
        service = service_of(scope["path"])
        assert service is not None, "only paths of services are routed here"
        headers = scope["headers"]
        announced = rules.announced_length(headers)
        if limit is not None and announced is not None and announced > limit:
            raise exchange.too_large(limit)
        caller: Caller = scope["state"]["caller"]
        token = self._signer.mint(service, caller.project, caller.role, caller.subject)
        said = [("authorization", f"Bearer {token}"), ("x-request-id", scope["state"]["request_id"])]
        asks = operation_of(scope["method"], scope["path"]) in (Operation.PREDICT, Operation.DESCRIBE)
        has_key = bool(rules.value_of(headers, b"idempotency-key"))
        little = announced is not None and announced <= SMALL
        body = await _body(headers, incoming, whole=little and (asks or has_key))
        target = scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii")
        sent = rules.forwarded(headers, said)
        return Outgoing(service, scope["method"], target, sent, body, changes_nothing=asks, has_key=has_key)


async def _exchange(
    scope: Scope, request: Outgoing, incoming: Incoming, send: Send, begins: Callable[[], None] = lambda: None
) -> None:
    parts: Parts = scope["state"]["parts"]
    async with parts.upstreams.send(request) as response:
        begins()
        scope["state"]["passed_on"] = True
        await _return(response, incoming, send, scope["state"]["is_ending"])


async def _wait(scope: Scope, request: Outgoing, incoming: Incoming, send: Send) -> None:
    """Pass a long poll on; when this process is asked to end, answer with how things are now.

    It would otherwise outlast the grace, and its client would be cut off.
    """
    try:
        async with _until_ending(scope["state"]["is_ending"]) as begins:
            await _exchange(scope, request, incoming, send, begins)
    except TimeoutError:
        at_once = Outgoing(request.service, "GET", _WAIT.sub(r"\1wait=0s", request.target), request.headers)
        await _exchange(scope, at_once, incoming, send)


@contextlib.asynccontextmanager
async def _until_ending(is_ending: Callable[[], bool]) -> AsyncIterator[Callable[[], None]]:
    """Give up what is done inside when this process is asked to end, unless its answer has begun. TimeoutError then."""
    async with asyncio.timeout(None) as limit:

        async def watch() -> None:
            while not is_ending():  # noqa: ASYNC110 - whoever serves sets a flag, and not an event
                await asyncio.sleep(LOOK / 4)
            limit.reschedule(asyncio.get_running_loop().time())

        def begins() -> None:
            watcher.cancel()
            limit.reschedule(None)

        watcher = asyncio.create_task(watch())
        try:
            yield begins
        finally:
            watcher.cancel()


async def _body(headers: rules.Headers, incoming: Incoming, *, whole: bool) -> Body | bytes | None:
    """What a request carries; `whole` when it is little and may be sent a second time."""
    if not rules.has_body(headers):
        incoming.is_empty()
        return None
    if not whole or rules.value_of(headers, b"expect"):
        return incoming.parts
    return b"".join([part async for part in incoming.parts()])


def _broke_off(scope: Scope) -> ServiceUnavailable:
    scope["state"].pop("passed_on", None)
    return ServiceUnavailable(f"The service {service_of(scope['path'])} broke off.", retry_after=SOON)


async def _return(
    response: aiohttp.ClientResponse, incoming: Incoming, send: Send, is_ending: Callable[[], bool]
) -> None:
    headers = rules.returned(response.raw_headers, response.status)
    length = response.content_length
    if length is not None and length <= SMALL:
        whole = await response.read()
        incoming.answering = True
        await exchange.start(send, response.status, headers)
        incoming.is_answered()
        await exchange.part(send, whole, more=False)
        return
    incoming.answering = True
    await exchange.start(send, response.status, headers)
    is_followed = response.content_type == sse.MEDIA_TYPE
    pieces = _until(response.content, is_ending) if is_followed else response.content.iter_any()
    async for piece in pieces:
        await exchange.part(send, piece, more=True)
    incoming.is_answered()
    await exchange.part(send, b"", more=False)


async def _until(events: aiohttp.StreamReader, is_ending: Callable[[], bool]) -> AsyncIterator[bytes]:
    """A stream of events, to the end of one when this process is asked to end: its client resumes it elsewhere."""
    last = EVENT_END
    while not (last.endswith(EVENT_END) and is_ending()):
        try:
            async with asyncio.timeout(LOOK):
                last = await events.readany()
        except TimeoutError:
            continue
        if not last:
            return
        yield last


def routes(proxy: Proxy, paths: Mapping[tuple[str, str], str]) -> list[RawRoute]:
    """The routes of all services' paths. Which role each needs, the service knows; here it takes a live key."""
    access = Access(Role.VIEWER, streams=True)
    roots = [f"/{version}/{noun}" for version, noun in paths] + ["/v2"]
    verbs = frozenset(VERBS)
    passed = [RawRoute(verbs, template, proxy, access) for root in roots for template in (root, root + "/{rest:path}")]
    by_link = Access(Role.VIEWER, streams=True, by_link=True)
    links = [RawRoute(frozenset({"GET"}), f"/v1/objects/{name}/{{signed}}", proxy, by_link) for name in sorted(OBJECTS)]
    return [*passed, *links]
