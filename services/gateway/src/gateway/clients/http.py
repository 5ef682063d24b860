"""The two clients that carry requests: connections of our own for what is whole, aiohttp for all else."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
from aiohttp import hdrs
from yarl import URL

from gateway.clients.connections import Connections, Unreached, request_of
from gateway.clients.exchanges import Answer, Outgoing
from gateway.domain.endpoints import Endpoint
from gateway.domain.headers import Headers, text_of

# No automatic header: a service sees what the client sent.
SILENT = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class Streamed:
    """An answer that aiohttp reads."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]
        self.length = response.content_length

    async def read(self) -> bytes:
        return await self._response.read()

    async def readany(self) -> bytes:
        return await self._response.content.readany()

    async def release(self) -> None:
        self._response.release()
        await self._response.wait_for_close()


@dataclass(frozen=True)
class Clients:
    session: aiohttp.ClientSession
    connections: Connections

    async def answer(self, request: Outgoing, endpoint: Endpoint, headers: Headers) -> Answer:
        """What an endpoint answers, once its head is there.

        Raises:
            Unreached: the request never left.
            aiohttp.ClientError: it did, or a part of it, and there is no answer.
        """
        place, body = endpoint.place, request.body
        if callable(body) or place.scheme != "http":
            return await self._streamed(request, endpoint, headers)
        content = request_of(request.method, place.prefix + request.target, place.authority, headers, body)
        connection = self.connections.kept(endpoint) or await self.connections.take(endpoint)
        try:
            await connection.ask(content, method=request.method)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _streamed(self, request: Outgoing, endpoint: Endpoint, headers: Headers) -> Answer:
        said = [(text_of(name), text_of(value)) for name, value in headers]
        if endpoint.host is not None:
            said.append((hdrs.HOST, endpoint.host))
        try:
            response = await self.session.request(
                request.method,
                URL(endpoint.url + request.target, encoded=True),
                headers=said,
                data=request.content(),
                allow_redirects=False,
                server_hostname=endpoint.name,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            refused = isinstance(getattr(exc, "os_error", None), ConnectionRefusedError)
            raise Unreached(str(exc), refused=refused) from None
        return Streamed(response)


@contextlib.asynccontextmanager
async def clients(*, answer_within: timedelta) -> AsyncIterator[Clients]:
    """HTTP clients that add nothing and hide nothing.

    `answer_within` is how long a service may be silent: longer than any long poll, shorter than for ever.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=answer_within.total_seconds())
    connections = Connections(answer_within=answer_within)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=SILENT,
        trust_env=False,
        read_bufsize=1 << 16,
    ) as session:
        # It would send PUT and DELETE again by itself when a kept connection turns out to be closed.
        session._retry_connection = False
        try:
            yield Clients(session, connections)
        finally:
            connections.close()
