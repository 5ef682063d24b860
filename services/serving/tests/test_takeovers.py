"""A model is exchanged under load, on a real server: no request fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial

import httpx2
import pytest
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import LOGISTIC, rows, trained

from kit.server import listen, serve
from kit.testing import KeyFolder, eventually
from serving.app import create_app
from serving.settings import Settings

PATH = "/v1/deployments/late/predict"


@contextlib.asynccontextmanager
async def serving_on_a_port(settings: Settings) -> AsyncIterator[str]:
    stop = asyncio.Event()
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        async with asyncio.TaskGroup() as group:
            app = create_app(settings)
            zero = timedelta(0)
            group.create_task(serve(app, host="", port=0, drain=zero, stop=stop, sockets=[bound]))
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                stop.set()


class Crowd:
    """Clients that ask without a pause, and note what they are told."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.versions: set[int] = set()
        self.answers = 0
        self.failures: list[str] = []
        self._body = {"rows": rows(3)}
        self._over = asyncio.Event()

    async def ask(self) -> None:
        while not self._over.is_set():
            answer = await self._http.post(PATH, json=self._body)
            if answer.status_code == 200:
                self.answers += 1
                self.versions.add(answer.json()["version"])
            else:
                self.failures.append(f"{answer.status_code} {answer.text}")

    def has_met(self, version: int) -> bool:
        return version in self.versions

    def stop(self) -> None:
        self._over.set()


@pytest.mark.parametrize("twin", [True, False], ids=["in the process", "in a child"])
async def test_no_request_fails_while_models_take_over(
    serving: Serving,
    settings: Callable[..., Settings],
    key_folder: KeyFolder,
    registry: Registry,
    engine: AsyncEngine,
    twin: bool,
) -> None:
    registry.move("late", "champion", registry.register("late", trained(LOGISTIC, twin=twin)))
    async with serving_on_a_port(settings("server")) as url:
        await serving.deploy("late", "late@champion")
        headers = key_folder.headers("serving")
        async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:

            async def answers() -> bool:
                return (await http.post(PATH, json={"rows": rows(1)})).is_success

            await eventually(answers)
            crowd = Crowd(http)
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(crowd.ask())
                for seed in (1, 2):
                    made = trained(LOGISTIC, seed=seed, twin=twin)
                    version = registry.register("late", made)
                    registry.move("late", "champion", version)
                    await eventually(partial(crowd.has_met, version))
                crowd.stop()
    assert crowd.failures == []
    assert crowd.versions == {1, 2, 3}
    assert crowd.answers > 10  # some between each two takeovers, however fast these are
