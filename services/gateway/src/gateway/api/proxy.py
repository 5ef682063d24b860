"""Requests for the services, passed on as they are: streamed both ways, under a token that says who asks."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
from starlette.types import Receive, Scope, Send

from gateway.api import exchange
from gateway.api.exchange import Incoming, Watched
from gateway.api.state import Parts
from gateway.clients.exchanges import Answer, Body, Outgoing
from gateway.clients.upstreams import SOON, ServiceUnavailable
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
ASKS = frozenset({Operation.PREDICT, Operation.DESCRIBE})
EVENT_END = b"\n\n"
LOOK = 1.0
"""Seconds in which a silent stream of events learns that this process is asked to end."""


Said = Mapping[bytes, bytes]
"""The headers of a request by their names; of one that came twice, the last."""


def _nothing() -> None:
    """There is nothing to be told that an answer begins."""


class Proxy:
    """The raw ASGI application behind every path that belongs to a service."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = dict(scope["headers"])
        limit = body_limit(scope["method"], scope["path"], rules.text_of(said.get(b"content-type", b"")))
        incoming = Incoming(receive, limit)
        try:
            with Watched(incoming, scope["state"]["parts"].watch):
                await self._pass_on(scope, said, incoming, limit, send)
        except ClientGone:
            log.info("client left", extra={"method": scope["method"]})
        except (errors.Error, aiohttp.ClientError) as exc:
            if not incoming.answering:
                await answer_problem(scope, send, exc if isinstance(exc, errors.Error) else _broke_off(scope))
                return
            # In the middle of an answer: nothing more is sent, and the connection ends without the last chunk,
            # so that the client cannot take a part for the whole.
            log.warning("service broke off", extra={"error": type(exc).__name__})

    async def _pass_on(self, scope: Scope, said: Said, incoming: Incoming, limit: int | None, send: Send) -> None:
        announced = rules.announced_length(said)
        if limit is not None and announced is not None and announced > limit:
            raise exchange.too_large(limit)
        body: Body | bytes | None = None
        if not rules.has_body(said):
            incoming.is_read()
        elif limit is None or announced is None or announced > SMALL or b"expect" in said:
            body = incoming.parts
        else:  # little, so that it may be sent in one piece, and a second time
            body = await incoming.whole()
        request = self._outgoing(scope, said, body)
        try:
            if request.method != "GET" or not _WAIT.search(request.target):
                await _exchange(scope, request, incoming, send)
            else:
                await _wait(scope, request, incoming, send)
        except (errors.Error, aiohttp.ClientError):
            if incoming.failure is not None:
                raise incoming.failure from None
            raise

    def _outgoing(self, scope: Scope, said: Said, body: Body | bytes | None) -> Outgoing:
        method, path, state = scope["method"], scope["path"], scope["state"]
        service = service_of(path)
        assert service is not None, "only paths of services are routed here"
        caller: Caller = state["caller"]
        token = self._signer.mint(service, caller.project, caller.role, caller.subject)
        ours = [(b"authorization", f"Bearer {token}".encode()), (b"x-request-id", state["request_id"].encode())]
        target = scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii")
        asks, has_key = operation_of(method, path) in ASKS, b"idempotency-key" in said
        sent = rules.forwarded(scope["headers"], ours)
        return Outgoing(service, method, target, sent, body, changes_nothing=asks, has_key=has_key)


async def _exchange(
    scope: Scope, request: Outgoing, incoming: Incoming, send: Send, begins: Callable[[], None] = _nothing
) -> None:
    parts: Parts = scope["state"]["parts"]
    begun = await parts.upstreams.begin(request)
    try:
        begins()
        scope["state"]["passed_on"] = True
        await _return(begun.answer, incoming, send, scope["state"]["is_ending"])
    finally:
        await begun.end()


async def _wait(scope: Scope, request: Outgoing, incoming: Incoming, send: Send) -> None:
    """Pass a long poll on; when this process is asked to end, answer with how things are now.

    It would otherwise outlast the grace, and its client would be cut off.
    """
    try:
        async with _until_ending(scope["state"]["is_ending"]) as begins:
            await _exchange(scope, request, incoming, send, begins)
    except TimeoutError as exc:
        if isinstance(exc, aiohttp.ClientError):
            raise  # the service's silence in the middle of its answer
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


def _broke_off(scope: Scope) -> ServiceUnavailable:
    scope["state"].pop("passed_on", None)
    return ServiceUnavailable(f"The service {service_of(scope['path'])} broke off.", retry_after=SOON)


async def _return(answer: Answer, incoming: Incoming, send: Send, is_ending: Callable[[], bool]) -> None:
    headers = rules.returned(answer.headers, answer.status)
    if answer.length is not None and answer.length <= SMALL:
        whole = await answer.read()
        incoming.answering = True
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        incoming.answered = True
        await send({"type": "http.response.body", "body": whole, "more_body": False})
        return
    incoming.answering = True
    await exchange.start(send, answer.status, headers)
    if _is_followed(answer):
        async for event in _until(answer, is_ending):
            await exchange.part(send, event, more=True)
    else:
        while piece := await answer.readany():
            await exchange.part(send, piece, more=True)
    incoming.answered = True
    await exchange.part(send, b"", more=False)


def _is_followed(answer: Answer) -> bool:
    media_type = rules.value_of(answer.headers, b"content-type")
    return media_type.partition(";")[0].strip().lower() == sse.MEDIA_TYPE


async def _until(events: Answer, is_ending: Callable[[], bool]) -> AsyncIterator[bytes]:
    """A stream of events, to the end of one when this process is asked to end: its client resumes it elsewhere."""
    last = EVENT_END
    while not (last.endswith(EVENT_END) and is_ending()):
        try:
            async with asyncio.timeout(LOOK):
                last = await events.readany()
        except TimeoutError as exc:
            if isinstance(exc, aiohttp.ClientError):
                raise  # the service's silence, and not ours
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
