"""A steady load over keep-alive connections, and what came of each request."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from stacks import ROOT, unique

CLIENTS = 4
"""At one time; each asks the next thing as soon as it has an answer and has paused."""
PAUSE = 0.02
MOST = 60_000
"""Requests, in all: a load that does not end is a defect of the test."""
Ask = Callable[[httpx2.AsyncClient], Any]


@dataclass(frozen=True)
class Outcome:
    at: float
    seconds: float
    what: str
    failure: str | None


@dataclass
class Load:
    outcomes: list[Outcome] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def since(self, began: float) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.at >= began]


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{outcome.what}: {outcome.failure}" for outcome in outcomes if outcome.failure is not None]


def p99(outcomes: Sequence[Outcome]) -> float:
    """Milliseconds."""
    if len(outcomes) < 2:
        return 0.0
    return 1000 * statistics.quantiles([outcome.seconds for outcome in outcomes], n=100, method="inclusive")[98]


def requests() -> Sequence[tuple[str, str, str, Any]]:
    """Something of each service: method, path, what it is called, body (a function makes a new one)."""
    rows = json.loads((ROOT / "examples/flight-delays/rows.json").read_text())
    return (
        ("POST", "/v1/deployments/flight-delays/predict", "predict", rows),
        ("GET", "/v1/datasets", "list datasets", None),
        ("POST", "/v1/deployments/flight-delays/predict", "predict", rows),
        ("GET", "/v1/models/flight-delays/versions", "list versions", None),
        ("POST", "/v1/models", "make a model", lambda: {"name": unique("m")}),
        ("GET", "/v1/jobs", "list jobs", None),
        ("POST", "/v1/deployments/flight-delays/predict", "predict", rows),
        ("GET", "/v1/pipelines", "list pipelines", None),
        ("GET", "/v1/deployments", "list deployments", None),
    )


@contextlib.asynccontextmanager
async def steady(url: str, key: str) -> AsyncIterator[Load]:
    """Load for as long as the block takes."""
    load = Load()
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(CLIENTS):
            group.create_task(_client(client, load, number))
        try:
            yield load
        finally:
            load.stop.set()


async def _client(client: httpx2.AsyncClient, load: Load, number: int) -> None:
    mix = requests()
    for turn in range(number, MOST // CLIENTS):
        if load.stop.is_set():
            return
        method, path, what, body = mix[turn % len(mix)]
        await _ask(client, load, method, path, what, body() if callable(body) else body)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(load.stop.wait(), PAUSE)


async def _ask(client: httpx2.AsyncClient, load: Load, method: str, path: str, what: str, body: Any) -> None:
    headers = {"Idempotency-Key": unique("load")} if method == "POST" else {}
    began = time.monotonic()
    failure: str | None = None
    try:
        answer = await client.request(method, path, json=body, headers=headers)
        if not answer.is_success:
            failure = f"{answer.status_code} {answer.text[:200]}"
    except httpx2.HTTPError as exc:
        failure = repr(exc)
    load.outcomes.append(Outcome(began, time.monotonic() - began, what, failure))
