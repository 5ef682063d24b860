"""How one service asks another: on behalf of a project, with time-outs, and with the other's problems as our errors."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import stamina

from kit import errors, problems, telemetry, tracing
from kit.callers import Role
from kit.events import Feed
from kit.metrics import AWAY, CALL_SECONDS, CALLS
from kit.tokens import Signer

PATIENCE = httpx2.Timeout(10.0, connect=2.0)
LONG_POLL = timedelta(seconds=25)
SYSTEM = "system"
"""The project that a service names when it asks for itself."""
ATTEMPTS = 3
IN_PROGRESS = "idempotency-in-progress"
SAFE = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True)
class Principal:
    """For whom a service asks: never more than what it was itself asked by."""

    project: str
    role: Role
    subject: str


class ServiceClient:
    """One neighbour. Each module in a service's `clients/` wraps it with the calls that the service makes."""

    def __init__(self, http: httpx2.AsyncClient, signer: Signer, service: str) -> None:
        """`http` has the neighbour's base URL; tests give it another transport."""
        self._http = http
        self._signer = signer
        self.service = service

    async def request(
        self,
        principal: Principal,
        method: str,
        path: str,
        *,
        json: object | None = None,
        content: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        patience: httpx2.Timeout = PATIENCE,
    ) -> httpx2.Response:
        """The neighbour's answer, if it is one.

        What is safe to send again is, up to three times, when the neighbour did not answer: reads, PUT, DELETE, and
        POSTs with an idempotency key. A streamed `content` is sent once.

        Raises:
            errors.Unavailable: it does not answer.
            errors.Error: of the kind that it answered with.
        """
        said = self._headers(principal) | dict(headers or {})
        if idempotency_key is not None:
            said["idempotency-key"] = idempotency_key
        again = content is None and (method in SAFE or idempotency_key is not None)
        tries = stamina.retry_context(
            on=errors.Unavailable, attempts=ATTEMPTS if again else 1, wait_initial=0.1, wait_max=1.0, timeout=None
        )
        async for attempt in tries:
            with attempt:
                return await self._once(method, path, json, content, params, said, patience)
        raise AssertionError("stamina ends in an answer or an error")  # pragma: no cover

    async def _once(
        self,
        method: str,
        path: str,
        json: object | None,
        content: Any,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        patience: httpx2.Timeout,
    ) -> httpx2.Response:
        began = time.perf_counter()
        with self._answering(), tracing.call(self.service, method, path) as span:
            said = {**headers, **_trace(span)}
            response = await self._http.request(
                method, path, json=json, content=content, params=params, headers=said, timeout=patience
            )
            tracing.answered(span, response.status_code)
        CALLS.labels(self.service, str(response.status_code)).inc()
        if patience is PATIENCE:  # else it is one that is to take its time
            CALL_SECONDS.labels(self.service).observe(time.perf_counter() - began)
        try:
            problems.raise_for_problem(response, service=self.service)
        except errors.Conflict as exc:
            if exc.extra.get("upstream_code") != IN_PROGRESS:
                raise
            # Our own request, which we gave up waiting for: its answer is there soon.
            raise errors.Unavailable(exc.detail, retry_after=exc.retry_after) from exc
        return response

    @contextlib.asynccontextmanager
    async def stream(self, principal: Principal, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a GET, as they come.

        Raises:
            errors.Unavailable: the neighbour does not answer, or broke off.
            errors.Error: of the kind that it answered with.
        """
        headers = self._headers(principal)
        with self._answering(), tracing.call(self.service, "GET", path) as span:
            headers |= _trace(span)
            async with self._http.stream("GET", path, headers=headers, timeout=PATIENCE) as response:
                tracing.answered(span, response.status_code)
                CALLS.labels(self.service, str(response.status_code)).inc()
                if not response.is_success:
                    await response.aread()
                    problems.raise_for_problem(response, service=self.service)
                yield response.aiter_bytes()

    async def events(self, after: str, *, wait: timedelta = LONG_POLL) -> Feed:
        """What happened at the neighbour behind a cursor: for kit.events.follow."""
        seconds = wait.total_seconds()
        with tracing.quietly():
            response = await self.request(
                Principal(SYSTEM, Role.VIEWER, f"service:{self._signer.issuer}"),
                "GET",
                "/internal/v1/events",
                params={"after": after, "wait": f"{int(seconds)}s"},
                patience=httpx2.Timeout(seconds + 10, connect=2.0),
            )
        return Feed.model_validate_json(response.content)

    async def hold(self, principal: Principal, noun: str, ref: str, holder: str) -> str:
        """Keep the neighbour from deleting a thing. Says the ref as the neighbour keeps it."""
        body = {"noun": noun, "ref": ref, "holder": holder}
        response = await self.request(principal, "PUT", "/internal/v1/holds", json=body)
        return str(response.json()["ref"])

    async def release(self, principal: Principal, noun: str, ref: str, holder: str) -> None:
        """Let go of a thing; of one that is not held, too."""
        params = {"noun": noun, "ref": ref, "holder": holder}
        await self.request(principal, "DELETE", "/internal/v1/holds", params=params)

    def _headers(self, principal: Principal) -> dict[str, str]:
        token = self._signer.mint(self.service, principal.project, principal.role, principal.subject)
        headers = {"authorization": f"Bearer {token}"}
        if (identity := telemetry.request_id.get()) is not None:
            headers["x-request-id"] = identity
        return headers

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as exc:
            AWAY.labels(self.service).inc()
            raise errors.Unavailable(f"The service {self.service} is not answering.") from exc


def _trace(span: tracing.Span | None) -> dict[str, str]:
    context = tracing.said_in(span)
    return {} if context is None else {"traceparent": context}


def http_client(base_url: str) -> httpx2.AsyncClient:
    """What a service talks to a neighbour with. No proxy of the environment stands between services."""
    return httpx2.AsyncClient(base_url=base_url, timeout=PATIENCE, trust_env=False)
