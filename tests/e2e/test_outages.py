"""The database away, and processes that stand still longer than their leases."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx2
import pytest
from suites_at_work import Suite, until
from worlds import World

from trainyard import Client


class Asking:
    """Somebody who wants predictions all the time."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world
        self._over = threading.Event()
        self.answers = 0
        self.failures: list[str] = []

    def __call__(self) -> None:
        headers = dict(self._client._http.headers)
        # No retries: every single request counts.
        with httpx2.Client(base_url=self._client.url, headers=headers, timeout=5, trust_env=False) as http:
            while not self._over.wait(0.05):
                answer = http.post(f"/v1/deployments/{self._world.name}/predict", json={"rows": [self._world.row()]})
                if answer.status_code == 200:
                    self.answers += 1
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")

    def stop(self) -> None:
        self._over.set()


@contextmanager
def asking(client: Client, world: World) -> Iterator[Asking]:
    it = Asking(client, world)
    thread = threading.Thread(target=it)
    thread.start()
    try:
        yield it
    finally:
        it.stop()
        thread.join()


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_predictions_go_on_without_a_database(shared_suite: Suite, world: World, seconds: int) -> None:
    with shared_suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        assert client.predict(world.name, [world.row()]).version == 1
        with shared_suite.database_away():
            began = time.monotonic()
            with asking(client, world) as asked:
                refused = raw(client, "/v1/datasets")
                until(lambda: time.monotonic() - began > seconds / 2, timedelta(seconds=seconds))
            assert asked.failures == []
            assert asked.answers > seconds
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.headers["Content-Type"] == "application/problem+json"
            shared_suite.kill("serving")
            until(lambda: shared_suite.is_back("serving"), timedelta(seconds=20))
            with asking(client, world) as asked:
                until(lambda: time.monotonic() - began > seconds, timedelta(seconds=seconds + 30))
            assert asked.failures == []
        until(lambda: raw(client, "/v1/datasets").status_code == 200, timedelta(seconds=10))
        until(shared_suite.is_whole, timedelta(seconds=10))
        again = client.runs.wait(world.start(client, seed=2).id)
        assert again.phase == "succeeded"


def raw(client: Client, path: str) -> httpx2.Response:
    """One request, without the client's patience."""
    headers = dict(client._http.headers)
    return httpx2.get(f"{client.url}{path}", headers=headers, timeout=10, trust_env=False)
