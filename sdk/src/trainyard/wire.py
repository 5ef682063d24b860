"""Requests as the suite wants them: an idempotency key on every POST, safe retries, problems raised, pages followed."""

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2

from trainyard.errors import Conflict, NotFound, ProblemError, Unreachable, WaitExpired, problem_of

TRIES = 7
FIRST_TRIES = 2  # as long as nobody ever answered: a wrong URL is likelier than a restart
RETRIED = frozenset({429, 502, 503, 504})
# Another copy of this very request is being worked on: its answer will be ours.
IN_FLIGHT = "idempotency-in-progress"
LONGEST_BACKOFF = 1.5  # a service that was killed is back within 5 seconds
LONGEST_PAUSE = 20.0
LONGEST_WAIT = timedelta(seconds=30)  # of one long poll
BRIEF = 0.3

Parameters = Mapping[str, str | int | None]
Body = Callable[[], Iterable[bytes]]  # opened anew for each try


@dataclass
class Wire:
    """An HTTP client that knows the manners of the suite."""

    http: httpx2.Client
    pause: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    answered: bool = False

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Parameters | None = None,
        json: Any = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Send until there is an answer worth having; a refusal is raised.

        Every try carries the same idempotency key, so what was done before an answer got lost is not done twice.
        """
        sent = dict(headers or {})
        if method == "POST":
            sent["Idempotency-Key"] = str(uuid.uuid4())
        for attempt in range(1, TRIES + 1):
            content = None if body is None else iter(body())
            try:
                answer = self.http.request(
                    method, path, params=_given(params), json=json, content=content, headers=sent
                )
            except httpx2.TransportError as error:
                if attempt == TRIES or (attempt >= FIRST_TRIES and not self.answered):
                    raise self._unreachable(error) from error
                self.pause(_backoff(attempt))
                continue
            self.answered = True
            if answer.status_code < 400:
                return answer
            problem = problem_of(answer.status_code, answer.headers, answer.content)
            if method == "DELETE" and attempt > 1 and answer.status_code == 404:
                return answer  # an earlier try did it, and its answer was lost
            problem.tries = attempt
            if attempt == TRIES or not _worth_another(problem):
                raise problem
            self.pause(min(problem.retry_after or _backoff(attempt), LONGEST_PAUSE))
        raise AssertionError("the last try answers or raises")

    def get(self, path: str, params: Parameters | None = None) -> Any:
        """The JSON of a GET."""
        return self.request("GET", path, params=params).json()

    def put(self, path: str, value: Mapping[str, Any] | str, *, text_type: str = "text/plain") -> Any:
        """Create the thing, or change it from what it is now; somebody else's change meanwhile is a Conflict."""
        try:
            return self._put(path, value, text_type)
        except Conflict as problem:
            if problem.tries == 1:
                raise
            # An earlier try may have been the change that the later one met: once more, from what is there now.
            return self._put(path, value, text_type)

    def _put(self, path: str, value: Mapping[str, Any] | str, text_type: str) -> Any:
        etag = self._etag(path)
        headers = {} if etag is None else {"If-Match": etag}
        if isinstance(value, str):
            content = value.encode()
            headers["Content-Type"] = text_type
            return self.request("PUT", path, body=lambda: [content], headers=headers).json()
        return self.request("PUT", path, json=value, headers=headers).json()

    def delete(self, path: str) -> None:
        """Delete the thing; one that can change must be named as it is now, which is then asked for."""
        try:
            self.request("DELETE", path)
        except Conflict as problem:
            if problem.status != 428:
                raise
            self.request("DELETE", path, headers={"If-Match": self._etag(path) or "*"})

    def _etag(self, path: str) -> str | None:
        try:
            return self.request("GET", path).headers.get("etag")
        except NotFound:
            return None

    def pages(self, path: str, params: Parameters | None = None) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page, as they are asked for."""
        token: str | None = None
        while True:
            page = self.get(path, {**(params or {}), "page_token": token})
            yield from page["items"]
            token = page.get("next_page_token")
            if not token:
                return

    def await_done(
        self, path: str, done: Callable[[dict[str, Any]], bool], timeout: timedelta | None
    ) -> dict[str, Any]:
        """Long-poll until `done`; the connection waits at the server, so the answer comes when it happens."""
        end = None if timeout is None else self.now() + timeout.total_seconds()
        while True:
            left = LONGEST_WAIT.total_seconds() if end is None else min(end - self.now(), LONGEST_WAIT.total_seconds())
            started = self.now()
            found: dict[str, Any] = self.get(path, {"wait": f"{max(int(left), 0)}s"})
            if done(found):
                return found
            if end is not None and self.now() >= end:
                raise WaitExpired(f"{path} is still {found['status']['phase']} after {timeout}.")
            if self.now() - started < BRIEF:  # the server is draining, or does not wait
                self.pause(BRIEF)

    @contextmanager
    def stream(
        self, path: str, *, params: Parameters | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """The answer of a GET as it arrives; a refusal is raised."""
        try:
            with self.http.stream("GET", path, params=_given(params), headers=dict(headers or {})) as answer:
                if answer.status_code >= 400:
                    raise problem_of(answer.status_code, answer.headers, answer.read())
                yield answer
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(f"Nobody answers at {self.http.base_url} ({reason}). Is the suite running?")


def _given(params: Parameters | None) -> dict[str, str | int]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _worth_another(problem: ProblemError) -> bool:
    return problem.status in RETRIED or problem.code == IN_FLIGHT


def _backoff(attempt: int) -> float:
    return float(min(0.2 * 2**attempt, LONGEST_BACKOFF)) * random.uniform(0.5, 1)  # noqa: S311  # spreads retries, no secret
